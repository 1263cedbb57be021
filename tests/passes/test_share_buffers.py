"""Concatenations written in place, slices read where they lie, and what has to be copied nevertheless."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graphopt.analysis.storage import Storage
from graphopt.errors import IRError
from graphopt.ir import KERNEL, Graph, Value, verify
from graphopt.ir.text import to_text
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.passes.share_buffers import ShareBuffers
from graphopt.pipeline import Pipeline
from tests.passes.helpers import Build, Draft, compare_golden, made, outputs_of


def shared(build: Build) -> tuple[Graph, Counter[str], list[str]]:
    """The graph after the pass, its operators, and why nodes stayed. The outputs are compared on the way."""
    graph = made(build)
    before = outputs_of(graph, {})
    record = Pipeline((ShareBuffers(), EliminateDeadCode())).run(graph, explain=("share-buffers",))
    verify(graph)
    after = outputs_of(graph, {})
    assert all(np.array_equal(after[name], before[name]) for name in before)
    Storage(graph)
    reasons = [a.reason for a in record.statistics().attempts if a.reason]
    return graph, Counter(node.op_type for node in graph.nodes), reasons


def computed(g: Draft, *shape: int) -> Value:
    return g.op("Relu", g.input(*shape))


def mixed(g: Draft) -> Value:
    """A growing concatenation, parts, a reshape in between, an input and a value twice, which are copied."""
    x, y = computed(g, 1, 4, 6), computed(g, 1, 2, 6)
    first = g.op("Concat", x, g.op("Reshape", g.op("Exp", y), g.ints(1, -1, 6)), axis=1)
    z = g.op("Tanh", first)
    a, b = g.ops("Split", z, g.ints(2, 4), outputs=2, axis=1)
    longer = g.op("Concat", x, first.producer.inputs[1], a, b, g.input(1, 1, 6), x, axis=1)  # type: ignore[union-attr]
    g.output(g.op("Slice", longer, g.ints(3, 0), g.ints(9, 6), g.ints(1, 2)))
    return g.op("Relu", longer)


def test_a_graph_of_all_kinds(update_golden: bool) -> None:
    graph, operators, _ = shared(mixed)
    assert operators["Join"] == 2 and operators["Fused"] == 3
    compare_golden(to_text(graph, weights="digest"), "share_buffers", update_golden)


def test_parts_that_come_together_are_the_whole() -> None:
    def build(g: Draft) -> Value:
        x = computed(g, 1, 9)
        return g.op("Relu", g.op("Concat", *g.ops("Split", x, outputs=3, axis=1, num_outputs=3), axis=1))

    graph, _, _ = shared(build)
    (join,) = (node for node in graph.nodes if node.is_op("Join", domain=KERNEL))
    assert [v.producer.op_type for v in join.inputs if v and v.producer] == ["Relu"]


def test_an_output_has_its_own_buffer() -> None:
    def build(g: Draft) -> Value:
        x, y = computed(g, 1, 9), computed(g, 1, 12)
        g.output(x, g.op("Concat", x, y, axis=1), *g.ops("Split", y, outputs=2, axis=1, num_outputs=2))
        return x

    _, operators, _ = shared(build)
    assert operators["Fused"] == 3


def batch(g: Draft) -> Value:
    return g.op("Concat", computed(g, 2, 3), computed(g, 2, 4), axis=1)


def inputs_only(g: Draft) -> Value:
    return g.op("Concat", g.input(3), g.input(4), axis=0)


def mostly_constant(g: Draft) -> Value:
    return g.op("Concat", computed(g, 3), g.weight(5), axis=0)


def rows_of_pairs(g: Draft) -> Value:
    return g.op("Relu", g.op("Slice", g.op("Softmax", g.input(2, 8)), g.ints(0), g.ints(4), g.ints(1)))


def every_other(g: Draft) -> Value:
    x = g.op("Softmax", g.input(8))
    return g.op("Relu", g.op("Slice", x, g.ints(0), g.ints(8), g.ints(0), g.ints(2)))


def columns(g: Draft) -> Value:
    a, b = g.ops("Split", computed(g, 2, 8), outputs=2, axis=1, num_outputs=2)
    return g.op("Add", a, b)


def cut_short(g: Draft) -> Value:
    return g.op("Tanh", g.op("Slice", computed(g, 8), g.ints(0), g.ints(3)))


def nothing(g: Draft) -> Value:
    return g.op("Concat", g.op("Slice", computed(g, 8), g.ints(3), g.ints(3)), axis=0)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (batch, "would not lie together"),
        (inputs_only, "more would be copied"),
        (mostly_constant, "more would be copied"),
        (rows_of_pairs, "that lie together"),
        (every_other, "that lie together"),
        (columns, "that lie together"),
        (cut_short, "need not make the rest"),
        (nothing, "its result is empty"),
    ],
)
def test_stays(build: Build, reason: str) -> None:
    _, operators, reasons = shared(build)
    assert not operators["Join"] and not operators["Part"]
    assert any(reason in given for given in reasons), reasons


def test_a_place_is_given_once() -> None:
    g = Draft()
    x = computed(g, 4)
    type = computed(g, 8).type
    for _ in range(2):
        g.output(g.graph.add("Join", [x, computed(g, 4)], types=[type], domain=KERNEL).output)
    with pytest.raises(IRError, match="has another place already"):
        Storage(g.graph)


def test_stretches() -> None:
    g = Draft()
    x, y = computed(g, 2, 3), computed(g, 4)
    flat = g.op("Reshape", x, g.ints(6))
    joined = g.graph.add("Join", [y, flat], types=[computed(g, 10).type], domain=KERNEL).output
    part = g.graph.add("Part", [joined], {"offset": 3}, types=[y.type], domain=KERNEL).output
    later = g.graph.add("Part", [joined], {"offset": 5}, types=[y.type], domain=KERNEL).output
    storage = Storage(g.graph)
    assert {v.name: storage.of(v).offset for v in (x, y, flat, joined, part, later)} == {
        x.name: 4, y.name: 0, flat.name: 4, joined.name: 0, part.name: 3, later.name: 5,
    }  # fmt: skip
    assert all(storage.of(v).root is joined for v in (x, y, flat, part))
    assert storage.made_in(part) == [x, y] and storage.made_in(later) == [x]
    assert not storage.is_alone(x)
