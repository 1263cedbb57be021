"""`graphopt db`: looking at tuning databases, and putting them together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import Json

if TYPE_CHECKING:
    from graphopt.targets.tuning.record import Record

database = typer.Typer(rich_markup_mode="markdown", no_args_is_help=True)

DatabaseArgument = Annotated[
    Path,
    typer.Argument(metavar="DATABASE", help="A folder that `graphopt tune` wrote, or a file of `export`."),
]


@database.callback()
def databases() -> None:
    """List, merge and trim the databases of `graphopt tune`."""


@database.command("list", no_args_is_help=True)
def list_records(path: DatabaseArgument, json: Json = False) -> None:
    """What was measured, for which machine, and how often.

    Example: `graphopt db list db`
    """
    from graphopt.report.tables import facts, show, show_json, table
    from graphopt.targets.tuning.database import read

    contents = read(path)
    machines: dict[tuple[str, str, int], list[Record]] = {}
    for record in contents.records:
        machines.setdefault(record.place[1:], []).append(record)
    rows = [
        [target, runner, threads, len({r.workload.key for r in records}), len(records)]
        for (target, runner, threads), records in sorted(machines.items())
    ]
    names = ["target", "runner", "threads", "workloads", "records"]
    ignored = dict(contents.ignored)
    if json:
        show_json({"machines": [dict(zip(names, row, strict=True)) for row in rows], "ignored": ignored})
        return
    shown: list[Any] = [table(str(path), names, rows)]
    if ignored:
        shown.append(facts("ignored", {reason: f"{count} records" for reason, count in ignored.items()}))
    show(*shown)


@database.command("best", no_args_is_help=True)
def best(path: DatabaseArgument, json: Json = False) -> None:
    """The best decision of each workload, beside its default.

    Example: `graphopt db best db`
    """
    from graphopt.report.tables import show, show_json, table
    from graphopt.targets.tuning.database import read
    from graphopt.tuning.tune import costs

    contents = read(path)
    defaults = contents.defaults()
    found = sorted(contents.best().items())
    if json:
        show_json([_data(record, defaults.get(place)) for place, record in found])
        return
    rows = []
    for place, record in found:
        default = defaults.get(place)
        rows.append(
            [
                f"{record.workload.family} {record.workload.key[:8]}",
                record.runner,
                record.threads,
                f"{record.template}{{{' '.join(f'{n}={v}' for n, v in record.decision.items())}}}",
                costs(record.cost, record.unit),
                "" if default is None else f"{default.cost / record.cost:.2f}x",
            ]
        )
    show(table(str(path), ["workload", "runner", "threads", "schedule", "cost", "speed-up"], rows))


def _data(record: Record, default: Record | None) -> dict[str, Any]:
    return {
        "workload": record.workload.key,
        "family": record.workload.family,
        "target": record.target,
        "runner": record.runner,
        "threads": record.threads,
        "template": record.template,
        "decision": dict(record.decision),
        "unit": record.unit,
        "cost": record.cost,
        "default": None if default is None else default.cost,
    }


@database.command("merge", no_args_is_help=True)
def merge(
    path: Annotated[
        Path, typer.Argument(metavar="DATABASE", help="The folder to add to; made if it is missing.")
    ],
    sources: Annotated[list[Path], typer.Argument(metavar="FROM...", help="Databases to take records from.")],
) -> None:
    """Add what other databases know.

    Example: `graphopt db merge db from-the-other-desk.jsonl`
    """
    from graphopt.targets.tuning.database import merge

    typer.echo(f"{path}: {merge(path, sources)} new records")


@database.command("export", no_args_is_help=True)
def export(
    path: DatabaseArgument,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="What to write, such as `tuned.jsonl`.")],
) -> None:
    """Write the best of each workload, and its default, to a single file that --tuning-db takes too.

    Example: `graphopt db export db tuned.jsonl`
    """
    from graphopt.targets.tuning.database import export

    typer.echo(f"{out}: {export(path, out)} records")


@database.command("prune", no_args_is_help=True)
def prune(path: DatabaseArgument) -> None:
    """Keep the best of each workload and its default; a later search measures anew what is forgotten.

    Example: `graphopt db prune db`
    """
    from graphopt.targets.tuning.database import prune

    before, after = prune(path)
    typer.echo(f"{path}: {after} of {before} records are left")
