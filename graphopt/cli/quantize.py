"""`graphopt quantize`: from a float model and samples to a quantised model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, ModelArgument, input_shapes

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
    """
    from graphopt.analysis.ranges_file import save_ranges
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.quantization import quantize as quantized
    from graphopt.report.quantization import layer_table, report_data, report_tables
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
            input_shapes=input_shapes(input_shape),
            progress=step,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if ranges is not None:
        save_ranges(result.ranges, ranges)
    if json:
        show_json({"out": None if out is None else str(out), **report_data(result.report)})
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = [layer_table(result.report)] if layers else []
    show(*listed, *report_tables(result.report, model.name), facts("", written))
