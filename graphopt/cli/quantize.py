"""`graphopt quantize`: from a float model and samples to a quantised model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, ModelArgument, input_shapes, target_option
from graphopt.cli.quantize_options import SCHEMES_HELP, QuantizeOptions, with_quantize_options


@with_quantize_options
def quantize(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    *,
    scheme: Annotated[str, typer.Option("--scheme", metavar="SPEC", help=SCHEMES_HELP)] = "int8",
    options: QuantizeOptions,
    target: Annotated[
        str | None, target_option("Tells schemes that it does not compute in integers.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Try each layer alone; list them in order of harm.")
    ] = False,
    input_shape: InputShapes = None,
    layers: Annotated[bool, typer.Option("--layers", help="A line for each layer.")] = False,
    json: Json = False,
) -> None:
    """Quantise MODEL: weights and activations in few bits, with ranges from samples.

    The file written has ONNX's own QuantizeLinear and DequantizeLinear; any run time can run it, and
    `graphopt compile` turns it into integer kernels.

    Example: `graphopt quantize model.onnx --calibration samples.npz -o model.int8.onnx`

    Example: `graphopt quantize model.onnx -c samples.npz:x --labels y --max-loss 1% --explain -o model.int8.onnx`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.report.quantization import (
        effect_tables,
        harm_data,
        harm_tables,
        layer_table,
        result_data,
        result_tables,
    )
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, model, options.use_ranges)
    options.check(model, out)
    with progress(quiet=json) as step:
        result = options.quantize(
            model,
            step,
            scheme=scheme,
            explain=explain,
            input_shapes=input_shapes(input_shape),
            target=target,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if json:
        told = {"out": None if out is None else str(out), **result_data(result)}
        show_json(told | ({"harms": harm_data(result.harms)} if explain else {}))
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = [layer_table(result.report), *effect_tables(result.effects)] if layers else []
    if explain:
        listed += harm_tables(result)
    show(*listed, *result_tables(result, model.name), facts("", options.told_loss(result.loss) | written))
