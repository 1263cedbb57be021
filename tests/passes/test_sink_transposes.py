"""Transposes move down, cancel, and disappear into weights."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays
from tests.zoo import zoo_model

PASS = "sink-transposes"
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def turned(g: Draft, perm: tuple[int, ...] = LAST, dtype: DType = DType.float32) -> Value:
    return g.op("Transpose", g.input(2, 3, 4, 5, dtype=dtype), perm=perm)


def unary(g: Draft) -> Value:
    return g.op("Clip", turned(g), g.const(-1.0), g.const(1.0))


def two_turned(g: Draft) -> Value:
    return g.op("Add", turned(g), turned(g))


def with_constant(g: Draft) -> Value:
    return g.op("Mul", g.weight(4, 1, 3), turned(g))


def where(g: Draft) -> Value:
    return g.op("Where", turned(g, dtype=DType.bool), turned(g), g.const(0.0))


def prelu(g: Draft) -> Value:
    return g.op("PRelu", turned(g), g.weight(3))


def softmax(g: Draft) -> Value:
    return g.op("Softmax", turned(g), axis=-1)


def argmax(g: Draft) -> Value:
    return g.op("ArgMax", turned(g), axis=3)


def concat(g: Draft) -> Value:
    return g.op("Concat", turned(g), turned(g), axis=1)


def split(g: Draft) -> Value:
    return g.ops("Split", turned(g), g.ints(1, 2), outputs=2, axis=-1)[1]


def mean(g: Draft) -> Value:
    return g.op("ReduceMean", turned(g), g.ints(1, 2))


def mean_dropped(g: Draft) -> Value:
    return g.op("ReduceMean", turned(g, (3, 0, 2, 1)), g.ints(-1), keepdims=0)


def sum_of_all(g: Draft) -> Value:
    return g.op("ReduceSum", turned(g), keepdims=0)


def sum_of_none(g: Draft) -> Value:
    return g.op("ReduceSum", turned(g), keepdims=1, noop_with_empty_axes=1)


def quantised(g: Draft) -> Value:
    scales, zeros = g.weight(3, positive=True), g.const([1, 2, 3], np.int8)
    return g.op("QuantizeLinear", turned(g), scales, zeros, axis=-1)


def padded(g: Draft) -> Value:
    return g.op("Pad", turned(g), g.ints(0, 1, 2, 0, 0, 3, 0, 1), g.const(7.0))


def sliced(g: Draft) -> Value:
    return g.op("Slice", turned(g), g.ints(1, 0), g.ints(9, 2), g.ints(2, -1))


def dequantised_weights(g: Draft) -> Value:
    codes = g.const(np.arange(6).reshape(2, 3), np.int8)
    w = g.op("DequantizeLinear", codes, g.weight(3, positive=True), g.const([0, 1, 2], np.int8), axis=1)
    return g.op("Add", g.input(3, 2), g.op("Transpose", w))


def gemm_left(g: Draft) -> Value:
    return g.op("MatMul", g.op("Transpose", g.input(5, 3)), g.weight(5, 2))


def gemm_right(g: Draft) -> Value:
    return g.op("MatMul", g.input(3, 5), g.op("Transpose", g.input(2, 5)))


def flat_matmul(g: Draft) -> Value:
    x = g.op("Reshape", turned(g), g.ints(2, 60))
    return g.op("MatMul", x, g.weight(60, 3))


def flat_gemm(g: Draft) -> Value:
    x = g.op("Transpose", g.input("N", 3, 4), perm=(0, 2, 1))
    return g.op("Gemm", g.op("Reshape", x, g.ints(-1, 12)), g.weight(2, 12), g.weight(2), transB=1)


@pytest.mark.parametrize(
    ("rule", "build"),
    [
        ("sink-transpose-unary", unary),
        ("sink-transpose-broadcast", two_turned),
        ("sink-transpose-broadcast", with_constant),
        ("sink-transpose-broadcast", where),
        ("sink-transpose-broadcast", prelu),
        ("sink-transpose-axis", softmax),
        ("sink-transpose-axis", argmax),
        ("sink-transpose-axis", concat),
        ("sink-transpose-axis", split),
        ("sink-transpose-reduction", mean),
        ("sink-transpose-reduction", mean_dropped),
        ("sink-transpose-reduction", sum_of_all),
        ("sink-transpose-reduction", sum_of_none),
        ("sink-transpose-quantiser", quantised),
        ("sink-transpose-pad", padded),
        ("sink-transpose-slice", sliced),
        ("transpose-of-quantised-weights", dequantised_weights),
        ("transpose-into-gemm", gemm_left),
        ("transpose-into-gemm", gemm_right),
        ("transpose-into-weights", flat_matmul),
        ("transpose-into-weights", flat_gemm),
    ],
)
def test_sinks(rule: str, build: Build, update_golden: bool) -> None:
    check_fires(PASS, rule, build, f"transpose_{build.__name__}", update_golden)


def fans_out(g: Draft) -> Value:
    x = turned(g)
    g.output(g.op("Relu", x), g.op("Softmax", x))
    return x


def is_output(g: Draft) -> Value:
    x = turned(g)
    g.output(x, g.op("Relu", x))
    return x


def other_order(g: Draft) -> Value:
    left = g.op("Transpose", g.input(2, 4, 4, 4), perm=(0, 2, 3, 1))
    return g.op("Add", left, g.op("Transpose", g.input(2, 4, 4, 4), perm=(0, 3, 1, 2)))


def one_turned(g: Draft) -> Value:
    return g.op("Add", turned(g), g.input(2, 4, 5, 3))


def broadcast_rank(g: Draft) -> Value:
    return g.op("Add", turned(g), g.const(np.ones((1, 1, 1, 1, 1))))


def tensor_bound(g: Draft) -> Value:
    return g.op("Clip", turned(g), g.input())


def dropped_axis(g: Draft) -> Value:
    return g.op("ArgMax", turned(g), axis=3, keepdims=0)


def two_parts(g: Draft) -> Value:
    parts = g.ops("Split", turned(g), g.ints(1, 2), outputs=2, axis=-1)
    g.output(*(g.op("Exp", part) for part in parts))
    return parts[0]


def computed_axes(g: Draft) -> Value:
    return g.op("ReduceSum", turned(g), g.input(1, dtype=DType.int64))


def blocks(g: Draft) -> Value:
    x = g.op("Transpose", g.input(4, 6), perm=(1, 0))
    return g.op("QuantizeLinear", x, g.weight(3, 4, positive=True), axis=0, block_size=2)


def moved_batch(g: Draft) -> Value:
    x = g.op("Reshape", turned(g, (1, 0, 2, 3)), g.ints(3, 40))
    return g.op("MatMul", x, g.weight(40, 3))


def half_flat(g: Draft) -> Value:
    return g.op("MatMul", g.op("Reshape", turned(g), g.ints(8, 15)), g.weight(15, 3))


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
        ("sink-transpose-unary", fans_out, "is also used by"),
        ("sink-transpose-unary", is_output, "is a graph output"),
        ("sink-transpose-unary", tensor_bound, "not a single number"),
        ("sink-transpose-broadcast", other_order, "not all transposed alike"),
        ("sink-transpose-broadcast", one_turned, "not all transposed alike"),
        ("sink-transpose-broadcast", broadcast_rank, "different ranks"),
        ("sink-transpose-axis", fans_out, "needed elsewhere"),
        ("sink-transpose-axis", dropped_axis, "it drops its axis"),
        ("sink-transpose-axis", two_parts, "a transpose of its own"),
        ("sink-transpose-reduction", computed_axes, "is not a constant"),
        ("sink-transpose-quantiser", blocks, "it works in blocks"),
        ("transpose-into-gemm", flat_matmul, "neither operand is transposed"),
        ("transpose-into-weights", moved_batch, "it moves the batch"),
        ("transpose-into-weights", half_flat, "does not flatten all but the batch"),
    ],
)
def test_declines(rule: str, build: Build, reason: str) -> None:
    check_stays(PASS, rule, build, reason)


@pytest.mark.zoo
def test_a_tensorflow_export_keeps_its_first_transpose_alone() -> None:
    """29 transposes; the one that remains turns the image that comes channels last."""
    graph = graphopt.load(zoo_model("mlperf_resnet8_bn_rawtransposes_op13"))
    assert sum(node.is_op("Transpose") for node in graph.nodes) == 29
    graph = graphopt.optimize(graph)
    left = [node for node in graph.all_nodes() if node.is_op("Transpose")]
    assert len(left) == 1 and left[0].inputs[0] is graph.inputs[0]
