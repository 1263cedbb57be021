"""`graphopt quantize`: from a float model and samples to a quantised model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, ModelArgument, input_shapes
from graphopt.errors import UsageError

Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        "-c",
        metavar="DATA",
        help="Samples: a .npz, a .npy, a folder of .npy, or module:function.",
    ),
]
SchemeSpec = Annotated[
    str,
    typer.Option(
        "--scheme",
        metavar="SPEC",
        help="Such as `int8`, `16x8`, `int4`, `dynamic`, `weights-int4{group=64}`.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="NODE", help="A layer that stays float; `*` for any letters. Repeatable."
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess", metavar="MODULE:FUNCTION", help="Turns a stored sample into the model's inputs."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take the first so many samples.")]
ObserverName = Annotated[
    str, typer.Option("--observer", metavar="SPEC", help="How ranges are found, such as `min-max`.")
]


def quantize(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    calibration: Calibration = None,
    scheme: SchemeSpec = "int8",
    exclude: Exclude = None,
    observer: ObserverName = "min-max",
    preprocess: Preprocess = None,
    limit: Limit = None,
    max_loss: Annotated[
        str | None,
        typer.Option(
            "--max-loss",
            metavar="LOSS",
            help="Give layers more bits until no more is lost: of the metric, or of the outputs, such as `1%`.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="KEY|FILE", help="What is right: an array of DATA's .npz, or a file."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Of the labels, such as `top1`.")
    ] = "top1",
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="MODULE:FUNCTION",
            help="Judges a model in place of labels; higher is better.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Try each layer alone; list them in order of harm.")
    ] = False,
    input_shape: InputShapes = None,
    ranges: Annotated[
        Path | None, typer.Option("--ranges", metavar="FILE.json", help="Write the ranges that were found.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="A line for each layer.")] = False,
    json: Json = False,
) -> None:
    """Quantise MODEL: weights and activations in few bits, with ranges from samples.

    The file written has ONNX's own QuantizeLinear and DequantizeLinear; any run time can run it, and
    `graphopt compile` turns it into integer kernels.

    Example: `graphopt quantize model.onnx --calibration samples.npz -o model.int8.onnx`

    Example: `graphopt quantize model.onnx -c samples.npz --labels y --max-loss 1% --explain -o model.int8.onnx`
    """
    from graphopt.analysis.ranges_file import save_ranges
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.quantization import quantize as quantized
    from graphopt.report.quantization import harm_data, harm_tables, layer_table, report_data, report_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, model)
    check_place(ranges, model, out)
    with progress(quiet=json) as step:
        result = quantized(
            model,
            calibration,
            scheme=scheme,
            observer=observer,
            preprocess=preprocess,
            limit=limit,
            exclude=exclude or (),
            max_loss=None if max_loss is None else share(max_loss),
            labels=labels,
            metric=metric,
            evaluate=evaluate,
            explain=explain,
            input_shapes=input_shapes(input_shape),
            progress=step,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if ranges is not None:
        save_ranges(result.ranges, ranges)
    if json:
        told = {"out": None if out is None else str(out), "loss": result.loss, **report_data(result.report)}
        show_json(told | ({"harms": harm_data(result.harms)} if explain else {}))
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = [layer_table(result.report)] if layers else []
    if explain:
        listed += harm_tables(result.harms, evaluate or metric)
    if result.loss is not None:
        written = {"loss": f"{result.loss:.4g} of {max_loss} allowed"} | written
    show(*listed, *report_tables(result.report, model.name), facts("", written))


def share(text: str) -> float:
    """`1%` or `0.01`. Raises UsageError."""
    number, percent = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / percent
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"'{text}' is no loss", where="--max-loss", hint="write 1% or 0.01")
    return value
