"""`graphopt inspect`: what a model is, and whether a target can run it."""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, ModelArgument, TargetName, input_shapes


def inspect(
    model: ModelArgument,
    target: TargetName = "host",
    input_shape: InputShapes = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="List every node.")] = False,
    json: Json = False,
) -> None:
    """Show what MODEL is: operators, MACs, parameters, peak memory, and what a target cannot run.

    MACs and memory are those of the model as it is, operator by operator; inputs and outputs are not counted
    in the peak. Nothing is compiled.

    Example: `graphopt inspect model.onnx --target rpi4`
    """
    from graphopt.cli.progress import progress
    from graphopt.report.inspect import as_data, as_tables, inspect_model
    from graphopt.report.tables import show, show_json
    from graphopt.targets.device import load_target

    device = load_target(target)
    with progress(quiet=json) as step:
        step("reading", 0, 1)
        inspection = inspect_model(model, device, input_shapes(input_shape))
    if json:
        show_json(as_data(inspection, nodes))
    else:
        show(*as_tables(inspection, nodes))
