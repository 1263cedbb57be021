"""`graphopt quantize`: from a float model and samples to a quantised model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, ModelArgument, input_shapes, target_option
from graphopt.cli.quantize_options import (
    SCHEMES_HELP,
    Calibration,
    Evaluate,
    Exclude,
    Labels,
    MaxLoss,
    Methods,
    MetricName,
    ObserverName,
    Preprocess,
    QuantizeOptions,
    Samples,
)


def quantize(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    calibration: Calibration = None,
    scheme: Annotated[str, typer.Option("--scheme", metavar="SPEC", help=SCHEMES_HELP)] = "int8",
    exclude: Exclude = None,
    observer: ObserverName = "min-max",
    methods: Methods = "default",
    preprocess: Preprocess = None,
    samples: Samples = None,
    max_loss: MaxLoss = None,
    labels: Labels = None,
    metric: MetricName = "top1",
    evaluate: Evaluate = None,
    target: Annotated[
        str | None, target_option("Tells schemes that it does not compute in integers.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Try each layer alone; list them in order of harm.")
    ] = False,
    input_shape: InputShapes = None,
    ranges: Annotated[
        Path | None, typer.Option("--ranges", metavar="FILE.json", help="Write the ranges that were found.")
    ] = None,
    use_ranges: Annotated[
        Path | None,
        typer.Option("--use-ranges", metavar="FILE.json", help="Take the ranges from a file, edited or not."),
    ] = None,
    allow_constant: Annotated[
        bool, typer.Option("--allow-constant", help="Also take values that never vary in the samples.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="A line for each layer.")] = False,
    json: Json = False,
) -> None:
    """Quantise MODEL: weights and activations in few bits, with ranges from samples.

    The file written has ONNX's own QuantizeLinear and DequantizeLinear; any run time can run it, and
    `graphopt compile` turns it into integer kernels.

    Example: `graphopt quantize model.onnx --calibration samples.npz -o model.int8.onnx`

    Example: `graphopt quantize model.onnx -c samples.npz:x --labels y --max-loss 1% --explain -o model.int8.onnx`
    """
    from graphopt.analysis.ranges_file import load_ranges, save_ranges
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.report.quantization import (
        effect_tables,
        harm_data,
        harm_tables,
        layer_table,
        report_data,
        report_tables,
    )
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, model, use_ranges)
    check_place(ranges, model, out)
    options = QuantizeOptions(
        calibration,
        scheme,
        exclude,
        observer,
        methods,
        preprocess,
        samples,
        max_loss,
        labels,
        metric,
        evaluate,
    )
    with progress(quiet=json) as step:
        result = options.quantize(
            model,
            step,
            explain=explain,
            input_shapes=input_shapes(input_shape),
            ranges=None if use_ranges is None else load_ranges(use_ranges),
            allow_constant=allow_constant,
            target=target,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if ranges is not None:
        save_ranges(result.ranges, ranges)
    if json:
        told = {
            "out": None if out is None else str(out),
            "loss": result.loss,
            **report_data(result.report),
        }
        show_json(told | ({"harms": harm_data(result.harms)} if explain else {}))
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    if result.loss is not None:
        written = {"loss": f"{result.loss:.4g} of {max_loss} allowed"} | written
    listed = [layer_table(result.report), *effect_tables(result.effects)] if layers else []
    if explain:
        listed += harm_tables(result.harms, evaluate or metric)
    show(*listed, *report_tables(result.report, model.name), facts("", written))
