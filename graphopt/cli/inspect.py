"""`graphopt inspect`: what a model is, and whether a target can run it; what a bundle holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import InputShapes, Json, input_shapes, target_option
from graphopt.errors import UnsupportedError, UsageError


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL|BUNDLE", help="An ONNX file, or a bundle.")],
    target: Annotated[
        str | None, target_option("Else host, whose verdict leaves the exit code alone.")
    ] = None,
    input_shape: InputShapes = None,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="List every node; of a bundle, every tensor in memory.")
    ] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Show which channels have to go together when it is pruned.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.svg", help="Draw these groups.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what MODEL is: operators, MACs, parameters, peak memory, and what a target cannot run.

    MACs and peak memory are those of the model as it is, operator by operator, inputs and outputs not counted;
    "when compiled" is what the target's arena holds at least. Nothing is compiled. Of a bundle the report is shown:
    each layer's cost, and the nodes it came from.

    Exit code 4 when the target named with --target cannot run the model. Open shapes alone are no obstacle.

    Example: `graphopt inspect model.onnx --target rpi4`

    Example: `graphopt inspect model.onnx --groups --picture groups.svg`
    """
    if groups or picture is not None:
        if model.is_dir():
            raise UsageError("a bundle's channels are fixed", where="--groups", hint="name the ONNX file")
        _inspect_groups(model, input_shapes(input_shape), picture, json)
        return
    if model.is_dir():
        if input_shape:
            raise UsageError("a bundle's shapes are fixed", where="--input-shape", hint="leave it out")
        _inspect_bundle(model, nodes, json)
    else:
        _inspect_model(
            model, target or "host", input_shapes(input_shape), nodes, json, asked=target is not None
        )


def _inspect_model(
    model: Path, target: str, shapes: dict[str, tuple[int, ...]], nodes: bool, json: bool, asked: bool
) -> None:
    from graphopt.cli.progress import progress
    from graphopt.report.inspect import as_data, inspect_model
    from graphopt.report.inspect_tables import as_tables
    from graphopt.report.tables import show, show_json
    from graphopt.targets.device import load_target

    device = load_target(target)
    with progress(quiet=json) as step:
        step("reading", 0, 1)
        inspection = inspect_model(model, device, shapes)
    if json:
        show_json(as_data(inspection, nodes))
    else:
        show(*as_tables(inspection, nodes))
    if asked and inspection.problems:
        raise typer.Exit(UnsupportedError.exit_code)


def _inspect_groups(model: Path, shapes: dict[str, tuple[int, ...]], drawn: Path | None, json: bool) -> None:
    from graphopt import api
    from graphopt.analysis.groups.find import channel_groups
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.passes import PRUNABLE
    from graphopt.report.groups import group_data, group_tables
    from graphopt.report.groups_picture import picture
    from graphopt.report.tables import show, show_json
    from graphopt.runtime.files import written_beside

    check_place(drawn, model)
    with progress(quiet=json) as step:
        step("reading", 0, 1)
        graph = api.optimize(api.load(model, input_shapes=shapes), PRUNABLE)
        found = channel_groups(graph)
    if drawn is not None:
        with written_beside(drawn) as beside:
            beside.write_text(picture(graph, found), encoding="utf-8")
    if json:
        show_json(group_data(found))
    else:
        show(*group_tables(found))


def _inspect_bundle(path: Path, memory: bool, json: bool) -> None:
    from graphopt.report.bundle import as_data, as_tables
    from graphopt.report.tables import show, show_json
    from graphopt.targets.bundle import Bundle

    bundle = Bundle.open(path)
    if json:
        show_json(as_data(bundle))
    else:
        show(*as_tables(bundle, memory))
