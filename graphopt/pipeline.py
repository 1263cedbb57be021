"""Passes and pipelines.

A pass is a frozen dataclass whose fields are its options; its spec string, `fold-batchnorm` or
`fold-constants{max_bytes=65536}`, and the object are the same thing. A pipeline runs passes in order and
verifies the graph after each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from graphopt.errors import GraphoptError, IRError, ModelError, UsageError
from graphopt.ir import Graph, verify
from graphopt.rewrite import Rule, Statistics, apply_rules
from graphopt.spec import ITEM, made_from, spec_of

VerifyLevel = Literal["off", "structure", "numeric"]


@dataclass(frozen=True)
class Pass:
    """One transformation of a graph, in place. A subclass sets `name`; its fields are its options."""

    name: ClassVar[str]

    def run(self, graph: Graph, statistics: Statistics) -> None:
        """Transform `graph`. Rule passes count what they do in `statistics`."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (type(self).__doc__ or "").strip().split("\n")[0]

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules the pass applies; empty when it is not made of rules."""
        return ()

    def __str__(self) -> str:
        return spec_of(self.name, self)


class RulePass(Pass):
    """A pass made of rules alone: applies them to a fixpoint."""

    def run(self, graph: Graph, statistics: Statistics) -> None:
        apply_rules(graph, self.rules, statistics)
        graph.remove_unused_constants()


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: wall seconds, node counts, statistics of its rules."""

    spec: str
    seconds: float
    nodes_before: int
    nodes_after: int
    statistics: Statistics

    @property
    def fired(self) -> int:
        return sum(self.statistics.fired.values())


@dataclass
class PipelineRecord:
    """What a whole run did, pass by pass."""

    passes: list[PassRecord] = field(default_factory=list)

    def statistics(self) -> Statistics:
        total = Statistics()
        for record in self.passes:
            total.merge(record.statistics)
        return total


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order they run."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        return ",".join(str(p) for p in self.passes)

    def run(
        self,
        graph: Graph,
        *,
        verify_level: VerifyLevel | None = None,
        explain: Iterable[str] = (),
        after_pass: Callable[[Pass, Graph], None] | None = None,
        before_pass: Callable[[int, Pass], None] | None = None,
    ) -> PipelineRecord:
        """Run every pass on `graph`, in place.

        `verify_level` defaults to the environment variable GRAPHOPT_VERIFY, or "structure": "numeric" also runs
        the graph before and after each pass on the same random inputs and compares. `explain` names rules
        whose every attempt is recorded. An error that a pass raises names the pass.
        """
        level = verify_level or _level_from_environment()
        record = PipelineRecord()
        reference = _NumericCheck(graph) if level == "numeric" else None
        for index, step in enumerate(self.passes):
            if before_pass:
                before_pass(index, step)
            statistics = Statistics(explain=frozenset(explain))
            nodes_before, start = len(graph), time.perf_counter()
            try:
                step.run(graph, statistics)
                seconds = time.perf_counter() - start
                if level != "off":
                    verify(graph)
                if reference:
                    reference.check(graph)
            except ModelError:  # a fault of the model, which the pass has only found
                raise
            except GraphoptError as error:
                error.args = (f"pass '{step}': {error}",)
                raise
            except Exception as error:
                raise IRError(f"{type(error).__name__}: {error}", where=f"pass '{step}'") from error
            record.passes.append(PassRecord(str(step), seconds, nodes_before, len(graph), statistics))
            if after_pass:
                after_pass(step, graph)
        return record


def parse_pipeline(spec: str, catalog: Mapping[str, type[Pass]]) -> Pipeline:
    """The pipeline of a spec string such as `"canonicalize,fold-constants{max_bytes=65536}"`.

    `catalog` maps names to pass classes. Options are `key=value`, separated by spaces or commas; the items of a
    list by `+`. Raises UsageError for text of another form, an unknown pass or option, a value of the wrong type.
    """
    if not spec.strip():
        return Pipeline(())
    passes: list[Pass] = []
    offset = 0
    while match := ITEM.match(spec, offset):
        passes.append(made_from(match["name"], match["options"] or "", catalog, "pass", where="pipeline"))
        offset = match.end()
        if not match["comma"]:
            break
    if offset < len(spec) or spec.rstrip().endswith(","):
        raise UsageError(
            f"'{spec[offset:]}' is not a pass",
            where=f"pipeline '{spec}'",
            hint="write pass,pass{option=value}",
        )
    return Pipeline(tuple(passes))


def _level_from_environment() -> VerifyLevel:
    level = os.environ.get("GRAPHOPT_VERIFY", "structure")
    if level not in ("off", "structure", "numeric"):
        raise UsageError(
            f"'{level}' is not a level", where="GRAPHOPT_VERIFY", hint="off, structure or numeric"
        )
    return level  # type: ignore[return-value]


class _NumericCheck:
    """Runs the graph on fixed random inputs, each time it has changed, and compares with its first answer."""

    def __init__(self, graph: Graph) -> None:
        from graphopt.runtime.reference import random_inputs, run

        self._inputs = random_inputs(graph)
        self._expected = run(graph, self._inputs)
        self._checked = graph.clone()

    def check(self, graph: Graph) -> None:
        from graphopt.ir.compare import equal
        from graphopt.runtime.compare import compare_outputs
        from graphopt.runtime.reference import run

        if equal(self._checked, graph):
            return
        compare_outputs(self._expected, run(graph, self._inputs)).raise_if_worse_than(1e-4)
        self._checked = graph.clone()
