"""Pipelines: spec strings, records, and the checks between passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import IRError, UsageError, VerificationError
from graphopt.ir import DType, Graph, TensorType
from graphopt.passes import DEFAULT, catalog
from graphopt.pipeline import Pass, Pipeline, parse_pipeline
from graphopt.rewrite import Statistics


@dataclass(frozen=True)
class Sample(Pass):
    """A pass with every kind of option."""

    name: ClassVar[str] = "sample"
    count: int = 3
    ratio: float = 0.5
    fast: bool = False
    kind: Literal["plain", "fancy"] = "plain"
    ops: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (1, 2)

    def run(self, graph: Graph, statistics: Statistics) -> None:
        statistics.fired[self.name] += 1


@dataclass(frozen=True)
class WrongNumbers(Pass):
    """Doubles the first constant."""

    name: ClassVar[str] = "wrong-numbers"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        old = graph.constants[0]
        assert old.constant is not None
        old.replace_uses(graph.add_constant(old.constant * 2))
        graph.remove_unused_constants()


@dataclass(frozen=True)
class WrongStructure(Pass):
    """Moves a node before what it reads."""

    name: ClassVar[str] = "wrong-structure"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        assert graph.last is not None
        graph.move_before(graph.last, next(graph.nodes))


@dataclass(frozen=True)
class Crash(Pass):
    """Raises what no pass should."""

    name: ClassVar[str] = "crash"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        raise ZeroDivisionError("by zero")


KNOWN: dict[str, type[Pass]] = {c.name: c for c in (Sample, WrongNumbers, WrongStructure, Crash)}


def small_graph() -> Graph:
    """Relu(x + 1)."""
    kind = TensorType(DType.float32, (2, 3))
    graph = Graph("small", opset=24)
    x, one = graph.add_input("x", kind), graph.add_constant(np.ones(3, np.float32))
    total = graph.add("Add", [x, one], types=[kind])
    graph.add_output(graph.add("Relu", [total.output], types=[kind]).output, "y")
    return graph


options = st.builds(
    Sample,
    count=st.integers(),
    ratio=st.floats(allow_nan=False),
    fast=st.booleans(),
    kind=st.sampled_from(["plain", "fancy"]),
    ops=st.lists(st.sampled_from(["Conv", "Gemm"]), max_size=3).map(tuple),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
)


@given(st.lists(options, max_size=3))
def test_a_pipeline_is_its_spec_string(passes: list[Sample]) -> None:
    pipeline = Pipeline(tuple(passes))
    assert parse_pipeline(str(pipeline), KNOWN) == pipeline


def test_the_default_pipeline_reads_back() -> None:
    pipeline = parse_pipeline(DEFAULT, catalog())
    assert str(pipeline) == DEFAULT
    assert parse_pipeline(str(pipeline), catalog()) == pipeline


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_pass_has_the_name_it_is_known_by_and_a_summary(name: str) -> None:
    step = catalog()[name]()
    assert step.name == str(step) == name
    assert step.summary.endswith(".")
    assert len({rule.name for rule in step.rules}) == len(step.rules)
    assert all((type(rule).__doc__ or "").strip() for rule in step.rules)


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ("", ()),
        ("  ", ()),
        ("sample", (Sample(),)),
        (" sample , sample{} ", (Sample(), Sample())),
        ("sample{count=7 fast=true}", (Sample(count=7, fast=True),)),
        ("sample{count=7,fast=1},crash", (Sample(count=7, fast=True), Crash())),
        ("sample{ops=Conv+Gemm sizes=}", (Sample(ops=("Conv", "Gemm"), sizes=()),)),
    ],
)
def test_reads(spec: str, passes: tuple[Pass, ...]) -> None:
    assert parse_pipeline(spec, KNOWN).passes == passes


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("smaple", "there is no pass 'smaple' .did you mean sample"),
        ("sample{speed=3}", "pass 'sample' has no option 'speed' .*options: count, fast"),
        ("crash{speed=3}", "options: none"),
        ("sample{count}", "pass 'sample': 'count' is not an option .write count=VALUE"),
        ("sample{count=many}", "'many' is not a value for count .*expected int"),
        ("sample{fast=perhaps}", "'perhaps' is not a value for fast .*expected bool"),
        ("sample{kind=odd}", r"'odd' is not a value for kind .*expected plain\|fancy"),
        ("sample{sizes=1+two}", "'1\\+two' is not a value for sizes"),
        ("sample{count=1", "'{count=1' is not a pass"),
        ("sample}", "'}' is not a pass"),
        ("sample}{sample", "'}{sample' is not a pass"),
        ("sample,", "is not a pass"),
        ("sample,,sample", "',sample' is not a pass"),
        ("sample sample", "'sample' is not a pass"),
    ],
)
def test_refuses(spec: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        parse_pipeline(spec, KNOWN)


def test_records_what_each_pass_did() -> None:
    seen: list[str] = []
    pipeline = parse_pipeline("sample,sample{count=1}", KNOWN)
    record = pipeline.run(
        small_graph(),
        before_pass=lambda index, step: seen.append(f"before {index}"),
        after_pass=lambda step, graph: seen.append(f"after {step} on {len(graph)}"),
    )
    assert seen == ["before 0", "after sample on 2", "before 1", "after sample{count=1} on 2"]
    assert [(p.spec, p.nodes_before, p.nodes_after, p.fired) for p in record.passes] == [
        ("sample", 2, 2, 1),
        ("sample{count=1}", 2, 2, 1),
    ]
    assert all(p.seconds >= 0 for p in record.passes)
    assert record.statistics().fired["sample"] == 2


def test_structure_is_checked_after_every_pass() -> None:
    with pytest.raises(IRError, match="pass 'wrong-structure': node 'Relu' .*used before it is defined"):
        parse_pipeline("sample,wrong-structure", KNOWN).run(small_graph())


def test_what_a_pass_raises_names_the_pass() -> None:
    with pytest.raises(IRError, match="pass 'crash': ZeroDivisionError: by zero"):
        parse_pipeline("crash", KNOWN).run(small_graph())


def test_a_numeric_check_catches_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = parse_pipeline("sample,wrong-numbers", KNOWN)
    pipeline.run(small_graph())  # the structure is right
    monkeypatch.setenv("GRAPHOPT_VERIFY", "numeric")
    with pytest.raises(VerificationError, match="pass 'wrong-numbers': output 'y': error .* of its scale"):
        pipeline.run(small_graph())


def test_checks_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_VERIFY", "off")
    parse_pipeline("wrong-structure", KNOWN).run(small_graph())


def test_an_unknown_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_VERIFY", "thorough")
    with pytest.raises(UsageError, match="'thorough' is not a level"):
        Pipeline(()).run(small_graph())
