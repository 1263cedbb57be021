"""`graphopt recover`: a smaller model learns from the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.compression_options import Evaluate, Labels, MetricName, Preprocess, SampleCount
from graphopt.cli.options import InputShapes, Json, input_shapes


def recover(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="The smaller model, an ONNX file.")],
    teacher: Annotated[
        list[Path],
        typer.Option(
            "--teacher",
            metavar="MODEL",
            help="What it was made from. Repeatable: the mean of answers is learned.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Samples, labelled or not: .npz or .npy, FILE.npz:ARRAY, a folder of .npy, or module:function.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Times through the samples.")] = 30,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Stop behind the epoch in which they are over.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", help="The share of its size that a step changes an array by.")
    ] = 1e-2,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples in a step.")] = 64,
    temperature: Annotated[float, typer.Option("--temperature", help="Softens the classes' scores.")] = 2.0,
    label_share: Annotated[
        float, typer.Option("--label-share", help="How much labels count beside the teacher.")
    ] = 0.5,
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Stop after so many epochs that are no better.")
    ] = 10,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="NODE", help="Keeps its weights; `*` for any letters. Repeatable."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option("--augment", metavar="MODULE:FUNCTION", help="Varies a batch: f(arrays, random)."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="Written after each epoch, taken up if it is there."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of samples.")] = 0,
    labels: Labels = None,
    metric: MetricName = None,
    evaluate: Evaluate = None,
    preprocess: Preprocess = None,
    samples: SampleCount = None,
    input_shape: InputShapes = None,
    json: Json = False,
) -> None:
    """Let STUDENT, a pruned or factorised model, learn what the original returns; samples need no labels.

    Needs JAX and optax, which `pip install graphopt[recover]` brings.

    Example: `graphopt recover small.onnx --teacher model.onnx --data samples.npz:images -o recovered.onnx`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.recovery.recover import recover as recovered
    from graphopt.report.compression import recover_data, recover_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, student, *teacher)
    check_place(checkpoint, student, *teacher, out)
    with progress(quiet=json) as step:
        result = recovered(
            student,
            teacher,
            data,
            epochs=epochs,
            minutes=minutes,
            rate=rate,
            batch=batch,
            temperature=temperature,
            label_share=label_share,
            patience=patience,
            seed=seed,
            freeze=tuple(freeze or ()),
            augment=augment,
            checkpoint=checkpoint,
            labels=labels,
            metric=metric,
            evaluate=evaluate,
            preprocess=preprocess,
            limit=samples,
            measure=True,
            input_shapes=input_shapes(input_shape),
            progress=step,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if json:
        show_json({"out": None if out is None else str(out), **recover_data(result)})
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    show(*recover_tables(result, student.name), facts("", written))
