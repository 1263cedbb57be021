"""What passes did to a graph: time and nodes pass by pass, and why a rule fired here and not there."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir.fused import body_of, is_fused
from graphopt.report import tables

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.ir import Graph
    from graphopt.pipeline import PassRecord, Pipeline, PipelineRecord
    from graphopt.rewrite.driver import Attempt

SHOWN_DECLINED = 12
"""Lines of an explanation that tell where a rule did not fire; the closest tries come first."""


def rules_of(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """What `--explain` may name -> the rules it means: a rule, or a pass with all of its rules."""
    known: dict[str, tuple[str, ...]] = {}
    for step in pipeline.passes:
        known[step.name] = tuple(rule.name for rule in step.rules) or (step.name,)
    for step in pipeline.passes:
        for rule in step.rules:
            known.setdefault(rule.name, (rule.name,))
    return known


def select_rules(pipeline: Pipeline, names: Iterable[str]) -> tuple[str, ...]:
    """The rules that `names` mean. Raises UsageError, with close matches, for a name without a meaning."""
    known = rules_of(pipeline)
    chosen: dict[str, None] = {}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, "`graphopt optimize --list-passes` lists passes and rules")
            raise UsageError(f"no pass of the pipeline has the rule '{name}'", where="--explain", hint=hint)
        chosen.update(dict.fromkeys(known[name]))
    return tuple(chosen)


def operator_count(graph: Graph) -> int:
    """Nodes of the graph when its fused groups are taken apart, as the exporter does."""
    return sum(len(body_of(node)) if is_fused(node) else 1 for node in graph.nodes)


def catalog_data() -> dict[str, Any]:
    """Every pass with its options and rules, and the pipeline that runs unless told otherwise, for a program."""
    from graphopt import passes

    entries = []
    for name, cls in passes.catalog().items():
        step = cls()
        entries.append(
            {
                "name": name,
                "summary": step.summary,
                "options": {f.name: f.default for f in dataclasses.fields(cls)},
                "rules": [rule.name for rule in step.rules if rule.name != name],
            }
        )
    return {"passes": entries, "default": passes.DEFAULT}


def catalog_tables() -> list[Any]:
    """The same for a person."""
    data = catalog_data()
    entries: dict[str, Any] = {}
    for step in data["passes"]:
        entries[step["name"]] = [step["summary"]]
        if options := ", ".join(f"{name}={value}" for name, value in step["options"].items()):
            entries[step["name"]].append(f"options: {options}")
        if step["rules"]:
            entries[step["name"]].append(f"rules: {', '.join(step['rules'])}")
    default = data["default"].replace(",", ", ")
    return [tables.facts("", entries), "", tables.facts("", {"the default": default})]


def time_table(record: PipelineRecord) -> RenderableType:
    """Seconds, nodes and firings of each pass."""
    rows: list[list[Any]] = [
        [step.spec, _milliseconds(step.seconds), step.nodes_after, _change(step), _fired(step)]
        for step in record.passes
    ]
    if record.passes:
        seconds = sum(step.seconds for step in record.passes)
        first, last = record.passes[0].nodes_before, record.passes[-1].nodes_after
        fired = sum(step.fired for step in record.passes)
        rows.append(["total", _milliseconds(seconds), last, _signed(last - first), f"{fired} in all"])
    return tables.table("", ("pass", "time", "nodes", "change", "fired"), rows)


def pass_data(record: PipelineRecord) -> list[dict[str, Any]]:
    """The same for a program."""
    return [
        {
            "pass": step.spec,
            "seconds": step.seconds,
            "nodes_before": step.nodes_before,
            "nodes_after": step.nodes_after,
            "fired": {rule: count for rule, count in step.statistics.fired.items() if count},
        }
        for step in record.passes
    ]


def explanation(record: PipelineRecord, rules: Sequence[str]) -> list[Any]:
    """For each rule a table where it fired, and one where it was tried in vain, closest first."""
    shown: list[Any] = []
    for rule in rules:
        fired, declined = attempts_of(record, rule)
        if fired:
            shown.append(_fired_table(rule, fired))
        elif not declined:
            shown.append(f"{rule} was never tried: no node is of the type that it starts at\n")
        if declined:
            shown += _declined_table(rule, declined)
    return shown


def explanation_data(record: PipelineRecord, rules: Sequence[str]) -> dict[str, Any]:
    """The same for a program."""
    data = {}
    for rule in rules:
        fired, declined = attempts_of(record, rule)
        data[rule] = {
            "fired": [{"pass": step, **_place(a)} for step, a in fired],
            "declined": [{**_place(a), "reason": a.reason} for a in declined],
        }
    return data


def _place(attempt: Attempt) -> dict[str, Any]:
    return {"node": attempt.known_as, "operator": attempt.op, "sources": list(attempt.sources)}


def attempts_of(record: PipelineRecord, rule: str) -> tuple[list[tuple[str, Attempt]], list[Attempt]]:
    """Where `rule` fired, with the pass, and where it last declined, closest first.

    Nodes are told apart as the user does, by the nodes of the model they are made of. One where it fired once is
    among the first alone; one tried several times in vain, or built anew in between, is listed with its last reason.
    """
    fired: list[tuple[str, Attempt]] = []
    last: dict[tuple[str, str], Attempt] = {}
    for step in record.passes:
        for attempt in step.statistics.attempts:
            if attempt.rule == rule and attempt.fired:
                fired.append((step.spec, attempt))
            elif attempt.rule == rule:
                last.pop((attempt.known_as, attempt.op), None)
                last[attempt.known_as, attempt.op] = attempt
    done = {attempt.known_as for _, attempt in fired}
    declined = [attempt for name, attempt in last.items() if name[0] not in done]
    left = [a for a in declined if not any(_became(a, other) for other in declined)]
    return fired, sorted(left, key=lambda a: -a.depth)


def _became(one: Attempt, other: Attempt) -> bool:
    """`other` was made of `one` and more."""
    return one.op == other.op and bool(one.sources) and set(one.sources) < set(other.sources)


def _fired_table(rule: str, fired: Sequence[tuple[str, Attempt]]) -> RenderableType:
    title = f"{rule} fired {len(fired)} times" if len(fired) > 1 else f"{rule} fired once"
    return tables.table(
        title, ("node", "operator", "in the pass"), [[a.known_as, a.op, step] for step, a in fired]
    )


def _declined_table(rule: str, declined: Sequence[Attempt]) -> list[Any]:
    count = f"{len(declined)} nodes" if len(declined) > 1 else "one node"
    title = f"{rule} did not fire at {count}" + (", the closest first" if len(declined) > 1 else "")
    rows = [[a.known_as, a.op, a.reason] for a in declined[:SHOWN_DECLINED]]
    made: list[Any] = [tables.table(title, ("node", "operator", "why not"), rows)]
    if len(declined) > SHOWN_DECLINED:
        made.append(f"... and {len(declined) - SHOWN_DECLINED} more, which --json lists\n")
    return made


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _change(step: PassRecord) -> str:
    return _signed(step.nodes_after - step.nodes_before)


def _signed(change: int) -> str:
    return f"{change:+d}" if change else ""


def _fired(step: PassRecord) -> str:
    counts = Counter({rule: count for rule, count in step.statistics.fired.items() if count})
    return ", ".join(f"{rule} x{count}" if count > 1 else rule for rule, count in counts.most_common())
