"""Transposes among random operators: elements move, numbers stay what they were, bit by bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import DType, Graph, Origin, TensorType, Value, verify
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Builder
from graphopt.runtime.reference import random_inputs, run

PIPELINE = "canonicalize,sink-transposes,fold-constants,canonicalize,eliminate-dead-code"

STEPS = ["transpose", "unary", "constant", "join", "concat", "slice", "pad", "reduce", "reshape", "split"]


class Walk:
    """Grows a graph step by step; `draw` chooses the details."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.graph = Graph("walk", opset=24)
        self.build = Builder(self.graph, None, Origin("", ("walk",)))
        shape = tuple(draw(st.lists(st.integers(1, 3), min_size=3, max_size=4)))
        self.values = [self.graph.add_input("x", TensorType(DType.float32, shape))]

    def step(self, kind: str) -> None:
        x = self.draw(st.sampled_from(self.values[-2:]))
        self.values.append(getattr(self, kind)(x))

    def axis(self, x: Value) -> int:
        return self.draw(st.integers(0, (x.rank or 1) - 1))

    def transpose(self, x: Value) -> Value:
        return self.build.op("Transpose", x, perm=tuple(self.draw(st.permutations(range(x.rank or 0)))))

    def unary(self, x: Value) -> Value:
        return self.build.op(self.draw(st.sampled_from(["Neg", "Abs", "Relu"])), x)

    def constant(self, x: Value) -> Value:
        shape = [d if self.draw(st.booleans()) else 1 for d in x.static_shape]
        shape = shape[self.draw(st.integers(0, len(shape))) :]
        data = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) - 1
        operands = [x, self.build.const(data)]
        return self.build.op(
            self.draw(st.sampled_from(["Add", "Mul", "Max"])), *self.draw(st.permutations(operands))
        )

    def join(self, x: Value) -> Value:
        alike = [v for v in self.values if v.shape == x.shape]
        return self.build.op("Add", x, self.draw(st.sampled_from(alike)))

    def concat(self, x: Value) -> Value:
        alike = [v for v in self.values if v.shape == x.shape]
        return self.build.op("Concat", x, self.draw(st.sampled_from(alike)), axis=self.axis(x))

    def slice(self, x: Value) -> Value:
        axis = self.axis(x)
        start = self.draw(st.integers(0, x.static_shape[axis] - 1))
        return self.build.op("Slice", x, *(self.build.shape([n]) for n in (start, 99, axis)))

    def pad(self, x: Value) -> Value:
        rank = x.rank or 0
        amounts = self.draw(st.lists(st.integers(0, 1), min_size=2 * rank, max_size=2 * rank))
        return self.build.op("Pad", x, self.build.shape(amounts), self.build.const(0.5, like=x))

    def reduce(self, x: Value) -> Value:
        keep = int(x.rank == 3 or self.draw(st.booleans()))
        kind = self.draw(st.sampled_from(["ReduceMax", "ReduceMin"]))
        return self.build.op(kind, x, self.build.shape([self.axis(x)]), keepdims=keep)

    def reshape(self, x: Value) -> Value:
        return self.build.op("Reshape", x, self.build.shape(self.draw(st.permutations(x.static_shape))))

    def split(self, x: Value) -> Value:
        axis = self.axis(x)
        size = x.static_shape[axis]
        if size < 2:
            return self.unary(x)
        return self.build.ops("Split", x, self.build.shape([1, size - 1]), outputs=2, axis=axis)[1]


@st.composite
def walks(draw: st.DrawFn) -> Graph:
    walk = Walk(draw)
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=8)):
        walk.step(kind)
    for value in dict.fromkeys(walk.values[-2:]):
        walk.graph.add_output(value, f"y{len(walk.graph.outputs)}")
    return walk.graph


@settings(max_examples=150, deadline=None)
@given(walks())
def test_outputs_keep_their_bits(graph: Graph) -> None:
    before = sum(node.is_op("Transpose") for node in graph.nodes)
    inputs = random_inputs(graph)
    want = run(graph, inputs)
    parse_pipeline(PIPELINE, catalog()).run(graph)
    verify(graph)
    got = run(graph, inputs)
    for name in want:
        assert got[name].shape == want[name].shape
        np.testing.assert_array_equal(got[name], want[name])  # -0 and +0 are one number
    assert sum(node.is_op("Transpose") for node in graph.nodes) <= before
