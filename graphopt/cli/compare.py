"""`graphopt compare`: two models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, input_shapes
from graphopt.errors import UsageError


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="An ONNX file or a bundle: the reference.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="An ONNX file or a bundle.")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Samples: .npz or .npy, FILE.npz:ARRAY, a folder of .npy, or module:function.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="KEY", help="An array in DATA's .npz, a file, or module:function."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="top1 unless given; top5, f1, auc, iou, cer, mse, ..., or module:function."
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess", metavar="MODULE:FUNCTION", help="Turns a stored sample into the model's."
        ),
    ] = None,
    input_shape: InputShapes = None,
    output: Annotated[
        str | None, typer.Option("--output", help="The output to judge; else the first.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Take the first so many.")] = None,
    layers: Annotated[int, typer.Option("--layers", min=0, help="Samples to compare inner values on.")] = 16,
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024, help="For the times.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.0, max=3600.0, help="How long to time each; 0: not at all.")
    ] = 2.0,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page with a picture too.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two models on the same data: task metric, SQNR, inner values, latency and size.

    ONNX files are compiled for this machine first. The two take turns, and the least time of each counts. Intervals
    are 95 % bootstrap intervals; that of a difference draws both models' samples together.

    Example: `graphopt compare model.onnx int8.onnx --data test.npz:images --labels labels --metric top1`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.comparison.compare import compare as compared
    from graphopt.report.comparison import as_data, as_tables
    from graphopt.report.comparison_page import write_page
    from graphopt.report.tables import show, show_json

    for path in (first, second):
        if not path.exists():
            raise UsageError("there is no such file or folder", where=str(path), hint="check the path")
    if metric is not None and labels is None:
        raise UsageError("a metric needs labels, and there are none", where="--metric", hint="give --labels")
    check_place(report, first, second)
    with progress(quiet=json) as step:
        result = compared(
            first,
            second,
            data,
            labels,
            metric or "top1",
            output=output,
            preprocess=preprocess,
            limit=samples,
            layer_samples=layers,
            threads=threads,
            seconds=seconds,
            input_shapes=input_shapes(input_shape),
            progress=step,
        )
    if report is not None:
        write_page(report, result)
    if json:
        show_json(as_data(result))
    else:
        show(*as_tables(result))
