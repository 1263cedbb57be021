"""Arithmetic on shapes becomes constants."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from graphopt.ir import DType, Graph, TensorType, Value
from graphopt.ir.compare import first_difference
from graphopt.passes import catalog
from graphopt.rewrite import Statistics
from tests.passes.helpers import Build, Draft, check_fires, made

RULE = "fold-shapes"


def size_of(g: Draft, x: Value, axis: int) -> Value:
    """One dimension, as PyTorch writes it."""
    return g.op("Gather", g.op("Shape", x), g.const(axis, np.int64), axis=0)


def one(g: Draft, dim: Value) -> Value:
    return g.op("Unsqueeze", dim, g.ints(0))


def flatten(g: Draft) -> Value:
    """x.view(x.size(0), -1) of a batch nobody knows."""
    x = g.op("Relu", g.input("N", 3, 4))
    return g.op("Reshape", x, g.op("Concat", one(g, size_of(g, x, 0)), g.ints(-1), axis=0))


def heads(g: Draft) -> Value:
    x = g.op("Relu", g.input("N", 6, 8))
    width = g.op("Div", size_of(g, x, 2), g.const(2, np.int64))
    dims = [one(g, size_of(g, x, 0)), one(g, size_of(g, x, 1)), g.ints(2), one(g, width)]
    return g.op("Reshape", x, g.op("Concat", *dims, axis=0))


def static_chain(g: Draft) -> Value:
    x = g.op("Relu", g.input(2, 3, 4))
    tail = g.op("Slice", g.op("Shape", x), g.ints(1), g.ints(3), g.ints(0))
    count = g.op("Mul", g.op("Squeeze", g.op("Slice", tail, g.ints(0), g.ints(1))), size_of(g, x, 2))
    return g.op("Reshape", x, g.op("Concat", g.ints(2), one(g, count), axis=0))


def expand_like(g: Draft) -> Value:
    """PyTorch's expand(-1, 5): the -1 is replaced where it stands."""
    x = g.op("Relu", g.input("N", 1))
    wanted = g.op("Concat", one(g, size_of(g, x, 0)), g.ints(5), axis=0)
    keep = g.op("Equal", wanted, g.ints(-1, -1))
    return g.op("Expand", x, g.op("Where", keep, g.ints(1, 1), wanted))


def cast_size(g: Draft) -> Value:
    x = g.op("Relu", g.input(2, 3))
    count = g.op("Cast", g.op("Size", x), to=TensorProto.INT32)
    back = g.op("Cast", g.op("Sub", count, g.const(0, np.int32)), to=TensorProto.INT64)
    return g.op("Reshape", x, one(g, back))


def range_to_a_list_of_one(g: Draft) -> Value:
    """As ONNX's definition of AffineGrid counts up to a dimension; ONNX's inference would take scalars only."""
    x = g.op("Relu", g.input(4, 3))
    last = g.op("Slice", g.op("Shape", x), g.ints(1), g.ints(2))
    zero, step = g.const(0, np.int64), g.const(1, np.int64)
    return g.op("Mul", x, g.op("Cast", g.op("Range", zero, last, step), to=TensorProto.FLOAT))


def shape_output(g: Draft) -> Value:
    return g.op("Shape", g.input(2, 3, 4), start=1)


@pytest.mark.parametrize(
    "build", [flatten, heads, static_chain, expand_like, cast_size, range_to_a_list_of_one, shape_output]
)
def test_folds(build: Build, update_golden: bool) -> None:
    check_fires(RULE, RULE, build, f"shape_{build.__name__}", update_golden)


def test_no_dead_shape_reads_what_another_rule_wants_alone(update_golden: bool) -> None:
    """Shape(y) of a folded chain is gone, so that the normalisation may follow into the convolution."""

    def build(g: Draft) -> Value:
        y = g.op("Conv", g.input(1, 3, 4, 4), g.weight(2, 3, 1, 1))
        target = g.op("Concat", one(g, size_of(g, y, 0)), g.ints(-1), axis=0)
        return g.op("Reshape", g.op("Mul", y, g.weight(2, 1, 1)), target)

    check_fires(f"{RULE},fold-affine", "fold-scale-into-producer", build, "shape_dead", update_golden)


@pytest.mark.parametrize(
    "build",
    [
        lambda g: g.op("Shape", g.input("N", 3)),
        lambda g: g.op("Reshape", g.input("N", "M"), g.input(1, dtype=DType.int64)),
        lambda g: g.op("Add", g.op("Shape", g.input("N", 3)), g.ints(1, 1)),
        lambda g: g.op("Reshape", g.input("N", 3, "M"), g.op("Shape", g.input("N", "M", 3))),
    ],
)
def test_what_is_not_known_stays(build: Build) -> None:
    graph, untouched = made(build), made(build)
    statistics = Statistics()
    catalog()[RULE]().run(graph, statistics)
    assert not statistics.fired[RULE]
    assert first_difference(untouched, graph) == ""


def test_a_branch_that_is_never_taken_may_be_impossible() -> None:
    """Its window of five does not fit the image of two."""
    image = TensorType(DType.float32, (1, 1, 2, 2))
    graph = Graph(opset=24)
    x = graph.add_input("x", image)
    flag = graph.add_input("flag", TensorType(DType.bool, ()))
    branches = {}
    for name, window in (("then_branch", 5), ("else_branch", 1)):
        branches[name] = Graph(name, opset=24, parent=graph)
        pooled = branches[name].add("MaxPool", [x], {"kernel_shape": (window, window)}, types=[image])
        branches[name].add_output(pooled.output)
    graph.add_output(graph.add("If", [flag], branches, types=[image]).output)
    untouched = graph.clone()
    catalog()[RULE]().run(graph, Statistics())
    assert first_difference(untouched, graph) == ""
