"""`graphopt targets`: the devices graphopt knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from graphopt.cli.options import Json

if TYPE_CHECKING:
    from graphopt.targets.device import Target

targets = typer.Typer(rich_markup_mode="markdown")


@targets.callback(invoke_without_command=True)
def list_all(context: typer.Context, json: Json = False) -> None:
    """List the devices graphopt knows, or explain one.

    A TOML file of your own is accepted wherever a name is; it may start with `base = "rpi4"` and override what
    differs.

    Example: `graphopt targets`
    """
    if context.invoked_subcommand is not None:
        return
    from graphopt.report.tables import show, show_json, table
    from graphopt.targets.device import list_targets, load_target
    from graphopt.targets.explain import explain

    known = [load_target(name) for name in list_targets()]
    if json:
        show_json([{"name": t.name, **explain(t)} for t in known])
        return

    linux = [t for t in known if not t.is_firmware]
    rows = [[t.name, t.description, t.cpu, t.cores, _runs(t)] for t in linux]
    firmware = [t for t in known if t.is_firmware]
    boards = [[t.name, t.description, _memory(t, "flash"), _memory(t, "ram"), _runs(t)] for t in firmware]
    show(
        table("Linux", ("target", "what it is", "processor", "cores", "runs here"), rows),
        table("Firmware", ("target", "what it is", "flash", "RAM", "runs here"), boards),
    )


def _runs(target: Target) -> str:
    from graphopt.targets import emulator

    if target.is_native:
        return "yes"
    if emulator.missing(target):
        return "no"
    return f"emulated on {target.emulator_board}" if target.emulator_board else "emulated"


def _memory(target: Target, kind: Literal["flash", "ram"]) -> str:
    size = target.bytes_of(kind)
    return f"{size >> 10} KiB" if size else ""


@targets.command(no_args_is_help=True)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A name from the list, or a TOML file.")],
    json: Json = False,
) -> None:
    """Explain one device.

    Example: `graphopt targets show rpi4`
    """
    from graphopt.report import tables
    from graphopt.targets import emulator
    from graphopt.targets.device import load_target
    from graphopt.targets.explain import explain

    target = load_target(name)
    explained = explain(target)
    if json:
        tables.show_json({"name": target.name, **explained})
        return
    reason = emulator.missing(target)
    explained["runs here"] = "natively" if target.is_native else reason or _runs(target)
    tables.show(tables.facts(target.name, explained))
