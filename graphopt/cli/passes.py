"""Options that look into a pipeline while it runs, for `optimize` and `compile`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.pipeline import Pass, Pipeline, PipelineRecord

PrintAfter = Annotated[
    list[str] | None,
    typer.Option(
        "--print-after", metavar="PASS|all", help="Print the graph after a pass, or after each. Repeatable."
    ),
]
PrintChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--print-changes", metavar="PASS|all", help="Print what a pass changed, or each did. Repeatable."
    ),
]
TimePasses = Annotated[bool, typer.Option("--time-passes", help="Show what each pass took and did.")]
Explain = Annotated[
    list[str] | None,
    typer.Option(
        "--explain",
        metavar="RULE",
        help="Show where a rule, or a pass's rules, fired and why not. Repeatable.",
    ),
]

EVERY_PASS = "all"


class Printer:
    """Prints the graph after some passes, and what some passes changed.

    Raises UsageError for a pass that the pipeline has not, or next to --json.
    """

    def __init__(
        self, graphs: Iterable[str] | None, changes: Iterable[str] | None, pipeline: Pipeline, json: bool
    ) -> None:
        self.graphs = _checked("--print-after", graphs, pipeline, json)
        self.changes = _checked("--print-changes", changes, pipeline, json)
        self._before: Graph | None = None

    def __bool__(self) -> bool:
        return bool(self.graphs or self.changes)

    def start(self, graph: Graph) -> None:
        """Remember the graph as it is before the first pass."""
        if self.changes:
            self._before = graph.clone()

    def after_pass(self, step: Pass, graph: Graph) -> None:
        from graphopt.ir.text import to_text

        if not self.graphs.isdisjoint((step.name, EVERY_PASS)):
            typer.echo(f"# after {step}\n{to_text(graph, weights='digest')}")
        if self._before is not None:
            self._print_changes(step, self._before, graph)
            self._before = graph.clone()

    def _print_changes(self, step: Pass, before: Graph, graph: Graph) -> None:
        from graphopt.ir.diff import diff

        if self.changes.isdisjoint((step.name, EVERY_PASS)):
            return
        found = diff(before, graph)
        typer.echo(f"# {step}: {found}\n" if found else f"# {step}: no change")


def _checked(option: str, names: Iterable[str] | None, pipeline: Pipeline, json: bool) -> frozenset[str]:
    wanted = frozenset(names or ())
    if wanted and json:
        raise UsageError("it prints text between the JSON", where=option, hint="leave out --json")
    running = {step.name for step in pipeline.passes}
    for name in sorted(wanted - running - {EVERY_PASS}):
        hint = did_you_mean(name, running, f"passes: {', '.join(sorted(running))}")
        raise UsageError(f"the pipeline has no pass '{name}'", where=option, hint=hint)
    return wanted


def findings(record: PipelineRecord, rules: tuple[str, ...], time_passes: bool) -> list[Any]:
    """The tables that --time-passes and --explain ask for."""
    from graphopt.report.passes import explanation, time_table

    return [*([time_table(record)] if time_passes else []), *explanation(record, rules)]


def findings_data(record: PipelineRecord, rules: tuple[str, ...]) -> dict[str, Any]:
    """The same for a program."""
    from graphopt.report.passes import explanation_data, pass_data

    data: dict[str, Any] = {"passes": pass_data(record)}
    if rules:
        data["explain"] = explanation_data(record, rules)
    return data
