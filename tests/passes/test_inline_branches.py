"""Branches and loops whose way is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphopt.errors import ModelError
from graphopt.ir import DType, Graph, Origin, TensorType, Value
from graphopt.passes import catalog
from graphopt.passes.inline_branches import why_open
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Builder
from tests.passes.helpers import Build, Draft, check_fires, check_stays

NUMBER, FLAG = TensorType(DType.int64, ()), TensorType(DType.bool, ())
VECTOR = TensorType(DType.float32, (4,))

Body = Callable[..., Sequence[Value]]
"""Builds a nested graph from a draft and its inputs; returns its outputs."""


class Nested(Draft):
    """A graph nested in another one."""

    def __init__(self, outer: Draft, name: str) -> None:
        super().__init__()
        self.graph = Graph(name, opset=outer.graph.opset, parent=outer.graph)
        self._build = Builder(self.graph, None, Origin("", (name,)))


def nested(outer: Draft, name: str, body: Body, *types: TensorType) -> Graph:
    draft = Nested(outer, name)
    inputs = [draft.graph.add_input(f"{name}_{index}", type) for index, type in enumerate(types)]
    draft.output(*body(draft, *inputs))
    return draft.graph


def choose(g: Draft, condition: Value, then: Body, otherwise: Body, type: TensorType = VECTOR) -> Value:
    branches = {"then_branch": nested(g, "then", then), "else_branch": nested(g, "else", otherwise)}
    return g.ops("If", condition, outputs=1, types=(type,), **branches)[0]


def loop(
    g: Draft, trips: Value | None, condition: Value | None, state: Value, body: Body, *results: TensorType
) -> tuple[Value, ...]:
    graph = nested(g, "body", body, NUMBER, FLAG, state.type)  # type: ignore[arg-type]
    return g.ops("Loop", trips, condition, state, outputs=len(results), types=results, body=graph)


def relu(x: Value) -> Body:
    return lambda g: [g.op("Relu", x)]


def doubled(x: Value) -> Body:
    return lambda g: [g.op("Mul", x, g.const(2.0))]


# --- If ---


def known(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, g.const(True, bool), relu(x), doubled(x))


def computed(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, g.op("Greater", g.ints(2), g.ints(3)), relu(x), doubled(x))


def within(g: Draft) -> Value:
    """An If inside a branch hands out a value of the enclosing graph."""
    x, no = g.input(4), g.const(False, bool)
    inner = lambda b: [choose(b, no, relu(x), lambda c: [c.op("Identity", x)])]  # noqa: E731
    return choose(g, g.const(True, bool), inner, doubled(x))


def measured(g: Draft) -> Value:
    """As PyTorch writes squeeze: the other branch cannot be."""
    x = g.input(4)
    last = g.op("Gather", g.op("Shape", x), g.const(-1, np.int64))
    return choose(g, g.op("Equal", last, g.op("Size", x)), relu(x), impossible(x))


def impossible(x: Value) -> Body:
    """A Transpose of what has one axis only, twice, so that a rule for two of them meets it."""

    def body(b: Draft) -> list[Value]:
        y = b.graph.add("Transpose", [x], {"perm": (1, 0)}, types=[VECTOR]).output
        return [b.graph.add("Transpose", [y], {"perm": (1, 0)}, types=[VECTOR]).output]

    return body


@pytest.mark.parametrize("build", [known, computed, within, measured])
def test_takes_the_branch(build: Build, update_golden: bool) -> None:
    check_fires("inline-branches", "inline-if", build, f"if_{build.__name__}", update_golden)


def open_condition(g: Draft) -> Value:
    return g.graph.add_input("condition", FLAG)


def selected(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, open_condition(g), relu(x), doubled(x))


def selected_by_vector(g: Draft) -> Value:
    x = g.input(4)
    condition = g.op("Less", g.input(1), g.const([0.0]))
    return choose(
        g, condition, lambda b: [b.op("ReduceSum", x, keepdims=0)], lambda b: [b.const(1.0)], SCALAR
    )


SCALAR = TensorType(DType.float32, ())


@pytest.mark.parametrize("build", [selected, selected_by_vector])
def test_computes_both(build: Build, update_golden: bool) -> None:
    check_fires("inline-branches", "select-branch", build, f"if_{build.__name__}", update_golden)


def if_open(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, open_condition(g), relu(x), doubled(x))


def random(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, open_condition(g), relu(x), lambda b: [b.op("RandomNormalLike", x)])


def many_nodes(g: Draft) -> Value:
    x = g.input(4)

    def chain(b: Draft) -> list[Value]:
        y = x
        for _ in range(32):
            y = b.op("Sin", y)
        return [y]

    return choose(g, open_condition(g), chain, relu(x))


def divides(g: Draft) -> Value:
    n = g.graph.add_input("n", TensorType(DType.int32, (4,)))
    then = lambda b: [b.op("Div", n, n)]  # noqa: E731
    return choose(g, open_condition(g), then, lambda b: [b.op("Neg", n)], n.type)  # type: ignore[arg-type]


def gathers(g: Draft) -> Value:
    x, k = g.input(4), g.graph.add_input("k", TensorType(DType.int64, (4,)))
    return choose(g, open_condition(g), lambda b: [b.op("Gather", x, k)], relu(x))


def never_taken(g: Draft) -> Value:
    x = g.input(4)
    return choose(g, open_condition(g), impossible(x), relu(x))


def of_two_shapes(g: Draft) -> Value:
    x = g.input(4)
    type = TensorType(DType.float32, ("n",))
    return choose(g, open_condition(g), lambda b: [b.op("Concat", x, x, axis=0)], relu(x), type)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (random, "is random"),
        (many_nodes, "more than 32 nodes"),
        (divides, "may divide by zero"),
        (gathers, "takes indices from data"),
        (of_two_shapes, "differ in type"),
        (never_taken, "never taken: node 'Transpose' (Transpose): Invalid attribute perm"),
    ],
)
def test_does_not_compute_both(build: Build, reason: str) -> None:
    check_stays("inline-branches{select=32}", "select-branch", build, reason)


def test_rules_leave_a_branch_that_is_never_taken() -> None:
    check_stays("canonicalize", "transpose-chain", never_taken, "Invalid attribute perm")


def test_an_open_condition_is_not_known() -> None:
    check_stays("inline-branches{select=0}", "inline-if", if_open, "not known")


# --- Loop ---


def step(g: Draft, index: Value, condition: Value, state: Value) -> list[Value]:
    """state' = sin(state) + index, which is a scan output too; it goes on."""
    shifted = g.op("Add", g.op("Sin", state), g.op("Cast", index, to=1))
    return [g.op("Identity", condition), shifted, g.op("Neg", shifted)]


def counted(g: Draft) -> Value:
    rows = TensorType(DType.float32, (3, 4))
    g.output(*loop(g, g.const(3, np.int64), g.const(True, bool), g.input(4), step, VECTOR, rows))
    return g.graph.outputs[0]


def never(g: Draft) -> Value:
    rows = TensorType(DType.float32, (0, 4))
    g.output(*loop(g, g.const(0, np.int64), None, g.op("Abs", g.input(4)), step, VECTOR, rows))
    return g.graph.outputs[0]


def never_at_all(g: Draft) -> Value:
    """Inference does not say how many rows there are."""
    rows = TensorType(DType.float32, ("n", 4))
    g.output(*loop(g, g.const(0, np.int64), None, g.op("Abs", g.input(4)), step, VECTOR, rows))
    return g.graph.outputs[0]


def while_small(g: Draft) -> Value:
    """A counter is carried, and the loop goes on while it is below 3."""
    x = g.input(4)

    def body(b: Draft, index: Value, condition: Value, count: Value) -> list[Value]:
        after = b.op("Add", count, b.const(1, np.int64))
        return [b.op("Less", after, b.const(3, np.int64)), after, b.op("Mul", x, b.op("Cast", after, to=1))]

    results = loop(
        g, None, g.const(True, bool), g.const(0, np.int64), body, NUMBER, TensorType(DType.float32, ("n", 4))
    )
    return results[1]


def with_a_branch(g: Draft) -> Value:
    """The branch depends on the trip."""

    def body(b: Draft, index: Value, condition: Value, state: Value) -> list[Value]:
        first = b.op("Equal", index, b.const(0, np.int64))
        return [condition, choose(b, first, relu(state), doubled(state))]

    return loop(g, g.const(2, np.int64), None, g.input(4), body, VECTOR)[0]


@pytest.mark.parametrize("build", [counted, never, never_at_all, while_small, with_a_branch])
def test_unrolls_loops(build: Build, update_golden: bool) -> None:
    check_fires("inline-branches", "unroll-loop", build, f"loop_{build.__name__}", update_golden)


def often(g: Draft) -> Value:
    return loop(g, g.const(65, np.int64), None, g.input(4), step, VECTOR, TensorType(DType.float32, (65, 4)))[
        0
    ]


def large(g: Draft) -> Value:
    return loop(g, g.const(40, np.int64), None, g.input(4), step, VECTOR, TensorType(DType.float32, (40, 4)))[
        0
    ]


def open_trips(g: Draft) -> Value:
    trips = g.graph.add_input("trips", NUMBER)
    return loop(g, trips, None, g.input(4), step, VECTOR, TensorType(DType.float32, ("n", 4)))[0]


def open_start(g: Draft) -> Value:
    rows = TensorType(DType.float32, ("n", 4))
    return loop(g, g.const(3, np.int64), open_condition(g), g.input(4), step, VECTOR, rows)[0]


def until_small(g: Draft) -> Value:
    def body(b: Draft, index: Value, condition: Value, state: Value) -> list[Value]:
        total = b.op("ReduceSum", state, keepdims=0)
        return [b.op("Greater", total, b.const(1.0)), b.op("Mul", state, b.const(0.5))]

    return loop(g, None, g.const(True, bool), g.input(4), body, VECTOR)[0]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (often, "more than 64 times"),
        (large, "more than 100 nodes"),
        (open_trips, "trip count is not known"),
        (open_start, "whether it starts is not known"),
        (until_small, "depends on data"),
    ],
)
def test_leaves_loops(build: Build, reason: str) -> None:
    check_stays("inline-branches{nodes=100}", "unroll-loop", build, reason)


# --- Scan ---


def scan(g: Draft, state: Value, x: Value, results: Sequence[TensorType], **attributes: object) -> Value:
    def body(b: Draft, total: Value, row: Value) -> list[Value]:
        after = b.op("Add", total, row)
        return [after, b.op("Mul", after, b.const(2.0))]

    graph = nested(g, "body", body, VECTOR, VECTOR)
    values = g.ops("Scan", state, x, outputs=2, types=results, body=graph, num_scan_inputs=1, **attributes)
    g.output(*values)
    return values[0]


def running_sum(g: Draft) -> Value:
    return scan(g, g.input(4), g.input(3, 4), (VECTOR, TensorType(DType.float32, (3, 4))))


def backwards(g: Draft) -> Value:
    """Columns from the last to the first; the results become columns from the last to the first."""
    return scan(
        g,
        g.input(4),
        g.input(4, 3),
        (VECTOR, TensorType(DType.float32, (4, 3))),
        scan_input_axes=(1,),
        scan_input_directions=(1,),
        scan_output_axes=(-1,),
        scan_output_directions=(1,),
    )


@pytest.mark.parametrize("build", [running_sum, backwards])
def test_unrolls_scans(build: Build, update_golden: bool) -> None:
    check_fires("inline-branches", "unroll-scan", build, f"scan_{build.__name__}", update_golden)


def of_any_length(g: Draft) -> Value:
    return scan(g, g.input(4), g.input("N", 4), (VECTOR, TensorType(DType.float32, ("N", 4))))


def long_sequence(g: Draft) -> Value:
    return scan(g, g.input(4), g.input(65, 4), (VECTOR, TensorType(DType.float32, (65, 4))))


@pytest.mark.parametrize(
    ("build", "reason"), [(of_any_length, "length of the sequence"), (long_sequence, "more than 64")]
)
def test_leaves_scans(build: Build, reason: str) -> None:
    check_stays("inline-branches", "unroll-scan", build, reason)


def test_a_body_that_cannot_be_is_the_models_fault() -> None:
    def body(b: Draft, total: Value, row: Value) -> list[Value]:
        return [b.op("Add", total, row)]

    g = Draft()
    graph = nested(g, "body", body, TensorType(DType.float32, None), TensorType(DType.float32, None))
    g.output(
        *g.ops("Scan", g.input(4), g.input(3, 5), outputs=1, types=(VECTOR,), body=graph, num_scan_inputs=1)
    )
    with pytest.raises(ModelError, match=r"^node '.*' \(Scan\), its body, node '.*' \(Add\): ") as raised:
        parse_pipeline("inline-branches", catalog()).run(g.graph)
    assert "the body must fit" in raised.value.hint


# --- what stays open ---


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (often, "it runs more than 64 times"),
        (open_trips, "its trip count is not known"),
        (of_any_length, "the length of the sequence is not known"),
        (of_two_shapes, "the branches differ in type"),
    ],
)
def test_why_control_flow_stays_open(build: Build, reason: str) -> None:
    g = Draft()
    build(g)
    told = [why_open(node) for node in g.graph.nodes if node.subgraphs]
    assert len(told) == 1 and reason in told[0]


def test_nothing_is_said_of_other_operators() -> None:
    g = Draft()
    g.op("Relu", g.input(4))
    assert [why_open(node) for node in g.graph.nodes] == [""]
