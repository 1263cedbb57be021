"""Options that look into a pipeline while it runs, for `optimize` and `compile`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.pipeline import Pass, Pipeline, PipelineRecord

PrintAfter = Annotated[
    list[str] | None,
    typer.Option(
        "--print-after", metavar="PASS|all", help="Print the graph after a pass, or after each. Repeatable."
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


def check_print_after(names: Iterable[str] | None, pipeline: Pipeline, json: bool) -> frozenset[str]:
    """The names as a set. Raises UsageError for a pass that does not run, or next to --json."""
    wanted = frozenset(names or ())
    if wanted and json:
        raise UsageError("it prints text between the JSON", where="--print-after", hint="leave out --json")
    running = {step.name for step in pipeline.passes}
    for name in sorted(wanted - running - {EVERY_PASS}):
        close = difflib.get_close_matches(name, running, 2, 0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else f"passes: {', '.join(sorted(running))}"
        raise UsageError(f"the pipeline has no pass '{name}'", where="--print-after", hint=hint)
    return wanted


def printer(wanted: frozenset[str]) -> Callable[[Pass, Graph], None] | None:
    """What prints the graph after the wanted passes; None when nothing is wanted."""
    if not wanted:
        return None
    printed = ""

    def after(step: Pass, graph: Graph) -> None:
        from graphopt.ir.text import to_text

        nonlocal printed
        text = to_text(graph, weights="digest")
        if step.name in wanted or (EVERY_PASS in wanted and text != printed):
            typer.echo(f"# after {step}\n{text}")
        elif EVERY_PASS in wanted:
            typer.echo(f"# after {step}: unchanged\n")
        printed = text

    return after


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
