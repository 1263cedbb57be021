"""The driver: to a fixpoint, with an end, with counts, reasons and origins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import IRError
from graphopt.ir import DType, Graph, Origin, TensorType, Value, verify
from graphopt.rewrite import Any, Builder, Match, Op, Rule, Scalar, Statistics, apply_rules
from tests.passes.helpers import Draft

VECTOR = TensorType(DType.float32, (3,))


class CancelNegation(Rule):
    """Neg(Neg(x)) --> x."""

    name = "cancel-negation"
    pattern = Op("Neg", Op("Neg", Any("x")))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class AbsOfNegation(Rule):
    """Abs(Neg(x)) --> Abs(x)."""

    name = "abs-of-negation"
    pattern = Op("Abs", Op("Neg", Any("x"), shared=True))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Abs", match["x"])


class Swap(Rule):
    """Exp --> Log, or back: never at rest together with its inverse."""

    def __init__(self, old: str, new: str) -> None:
        self.name = f"{old}-to-{new}"  # type: ignore[misc]
        self.pattern = Op(old, Any("x"))
        self.new = new

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op(self.new, match["x"])


class Deep(Rule):
    """Relu(Abs(Exp(x) * 2)) --> Exp(x), three nodes below its root."""

    name = "deep"
    pattern = Op("Relu", Op("Abs", Op("Mul", Op("Exp", Any("x"), bind="exp"), Scalar(2))))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Exp", match["x"])


def chain(*op_types: str) -> Graph:
    graph = Graph("chain", opset=24)
    value = graph.add_input("x", VECTOR)
    for op_type in op_types:
        value = graph.add(op_type, [value], types=[VECTOR]).output
    graph.add_output(value, "y")
    return graph


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["Neg", "Abs", "Exp"]), max_size=14))
def test_no_rule_fires_on_what_is_left(op_types: list[str]) -> None:
    graph = chain(*op_types)
    rules = (CancelNegation(), AbsOfNegation())
    fired = apply_rules(graph, rules)
    verify(graph)
    assert (fired == 0) == ("Neg Neg" not in " ".join(op_types) and "Neg Abs" not in " ".join(op_types))
    assert apply_rules(graph, rules) == 0
    left = " ".join(node.op_type for node in graph.nodes)
    assert "Neg Neg" not in left and "Neg Abs" not in left


def test_a_rewrite_wakes_roots_as_deep_as_a_pattern_reaches() -> None:
    """Log becomes Sqrt, and Sqrt becomes Exp when the root of `deep`, three nodes below, was tried already."""
    g = Draft()
    inner = g.op("Mul", g.op("Log", g.input(3)), g.const(2.0))
    g.output(g.op("Relu", g.op("Abs", inner)))
    statistics = Statistics(explain=frozenset({"deep"}))
    assert apply_rules(g.graph, (Deep(), Swap("Log", "Sqrt"), Swap("Sqrt", "Exp")), statistics) == 3
    assert [node.op_type for node in g.graph.nodes] == ["Exp"]
    assert [attempt.fired for attempt in statistics.attempts] == [False, True]


def test_losing_its_other_reader_may_make_a_match() -> None:
    """Neg(Neg(x)) waits until the dead reader of the inner one is rewritten away."""
    g = Draft()
    x = g.input(3)
    inner = g.op("Neg", x)
    outer = g.op("Neg", inner)
    g.output(outer, g.op("Abs", inner))
    assert apply_rules(g.graph, (CancelNegation(), AbsOfNegation())) == 2
    assert [node.op_type for node in g.graph.nodes] == ["Abs"]
    assert g.graph.outputs[0] is x


def test_rules_without_end_are_found_out() -> None:
    graph = chain("Exp")
    with pytest.raises(
        IRError, match="rewriting does not end; the busiest rules are (Exp-to-Log|Log-to-Exp)"
    ):
        apply_rules(graph, (Swap("Exp", "Log"), Swap("Log", "Exp")))


def test_statistics_count_and_explain() -> None:
    graph = chain("Neg", "Neg", "Exp", "Neg")
    statistics = Statistics(explain=frozenset({"cancel-negation"}))
    apply_rules(graph, (CancelNegation(), AbsOfNegation()), statistics)
    assert statistics.fired == {"cancel-negation": 1}
    assert statistics.tried["cancel-negation"] == len(statistics.attempts)
    assert statistics.seconds["cancel-negation"] > 0
    fired = [attempt for attempt in statistics.attempts if attempt.fired]
    assert [(a.node, a.op) for a in fired] == [("Neg_1", "Neg")]
    reasons = {attempt.node: attempt.reason for attempt in statistics.attempts if not attempt.fired}
    assert reasons["Neg_2"] == "'Exp.0' is made by Exp 'Exp', want Neg"


def test_statistics_add_up() -> None:
    total, seconds = Statistics(), 0.0
    for _ in range(2):
        statistics = Statistics(explain=frozenset({"cancel-negation"}))
        apply_rules(chain("Neg", "Neg"), (CancelNegation(),), statistics)
        seconds += statistics.seconds["cancel-negation"]
        total.merge(statistics)
    assert total.fired["cancel-negation"] == 2
    assert total.seconds["cancel-negation"] == seconds > 0
    assert sum(attempt.fired for attempt in total.attempts) == 2


def test_every_new_node_tells_its_rule_and_its_sources() -> None:
    graph = chain("Neg", "Abs", "Exp")
    apply_rules(graph, (AbsOfNegation(), Swap("Exp", "Log")))
    origins = {node.op_type: node.origin for node in graph.nodes}
    assert origins["Abs"] == Origin("abs-of-negation", ("Abs", "Neg"))
    assert origins["Log"] == Origin("Exp-to-Log", ("Exp",))


def test_the_new_value_takes_the_name_of_the_old() -> None:
    graph = chain("Neg", "Abs")
    name = graph.outputs[0].name
    apply_rules(graph, (AbsOfNegation(),))
    assert graph.outputs[0].name == name and graph.output_names == ["y"]


class TooMany(Rule):
    name = "too-many"
    pattern = Op("Exp", Any("x"))

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value]:
        return [match["x"], match["x"]]


class OtherShape(Rule):
    name = "other-shape"
    pattern = Op("Exp", Any("x"))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.const([1.0, 2.0], like=match["x"])


class StillUsed(Rule):
    name = "still-used"
    pattern = Op("Exp", Any("x"))

    def rewrite(self, match: Match, build: Builder) -> Sequence[None]:
        return [None]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (TooMany(), "rule 'too-many': it returned 2 values for 1 outputs"),
        (OtherShape(), r"rule 'other-shape': 'Exp.0' was float32\[3\] and became float32\[2\]"),
        (StillUsed(), "rule 'still-used': 'Exp' is still in use after the rewrite"),
    ],
)
def test_a_wrong_rewrite_is_named(rule: Rule, fault: str) -> None:
    with pytest.raises(IRError, match=fault):
        apply_rules(chain("Exp"), (rule,))


def nested() -> tuple[Graph, Graph]:
    """A graph with a branch that returns Neg(Neg(x)) of the outer x."""
    graph = Graph("outer", opset=24)
    condition = graph.add_input("c", TensorType(DType.bool, ()))
    x = graph.add_input("x", VECTOR)
    branches = []
    for name in ("then", "else"):
        branch = Graph(name, opset=24, parent=graph)
        first = branch.add("Neg", [x], types=[VECTOR])
        branch.add_output(branch.add("Neg", [first.output], types=[VECTOR]).output)
        branches.append(branch)
    attributes = {"then_branch": branches[0], "else_branch": branches[1]}
    node = graph.add("If", [condition], attributes, types=[VECTOR])
    graph.add_output(node.output, "y")
    return graph, branches[0]


def test_nested_graphs_are_rewritten_and_return_values_of_their_own() -> None:
    """x belongs to the outer graph, so that the branch returns an Identity of it."""
    graph, branch = nested()
    assert apply_rules(graph, (CancelNegation(),)) == 2
    verify(graph)
    assert [node.op_type for node in branch.nodes] == ["Identity"]
    assert branch.outputs[0].graph is branch


def test_bodies_of_groups_are_left_alone() -> None:
    from graphopt.ir.fused import body_of, fuse_nodes

    graph = chain("Neg", "Neg")
    group = fuse_nodes(graph, list(graph.nodes))
    assert apply_rules(graph, (CancelNegation(),)) == 0
    assert len(body_of(group)) == 2
