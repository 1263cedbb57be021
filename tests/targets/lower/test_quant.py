"""Sums of integers in compiled kernels against their numpy reference: equal, whatever the shapes, types and layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.ir import KERNEL, QUANT, DType, Graph, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.ir.layout import blocked_of
from graphopt.preparation import grouped_for, legalized
from graphopt.runtime.reference import run
from graphopt.targets.aot import compile_model
from graphopt.targets.device import load_target
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled
from tests.targets.lower.kernels import Case, Outputs, assert_same, case, names, run_cases

RANDOM = np.random.default_rng(11)


def integers(dtype: type, *shape: int) -> np.ndarray:
    """The least and the greatest number among them."""
    bounds = np.iinfo(dtype)
    data = RANDOM.integers(bounds.min, bounds.max + 1, shape).astype(dtype)
    data.reshape(-1)[:2] = bounds.min, bounds.max
    return data


def bias(channels: int) -> np.ndarray:
    return RANDOM.integers(-(1 << 28), 1 << 28, channels).astype(np.int32)


X, U, H = integers(np.int8, 2, 6, 7, 5), integers(np.uint8, 2, 6, 7, 5), integers(np.int16, 1, 2, 5, 5)
W = integers(np.int8, 4, 6, 3, 3)


def quant(op_type: str, *operands: np.ndarray, **attributes: object) -> Case:
    return case(op_type, *operands, domain=QUANT, **attributes)  # type: ignore[arg-type]


CASES = [
    quant("Conv", X, W, x_zero_point=-3, pads=(1, 1, 1, 1)),
    quant("Conv", U, W, bias(4), x_zero_point=255, strides=(2, 2), pads=(2, 0, 1, 2)),
    quant("Conv", U, integers(np.int16, 4, 3, 2, 2) // 100, group=2, x_zero_point=7, dilations=(2, 2)),
    quant("Conv", X, integers(np.int8, 6, 1, 3, 3), bias(6), group=6, x_zero_point=9, auto_pad="SAME_UPPER"),
    quant("Conv", H, integers(np.int8, 3, 2, 2, 2), bias(3), x_zero_point=-700),
    quant("ConvTranspose", X, integers(np.int8, 6, 4, 3, 3), bias(4), x_zero_point=-8, strides=(2, 2)),
    quant("MatMul", integers(np.uint8, 3, 5, 7), integers(np.int8, 7, 9), bias(9), a_zero_point=200),
    quant(
        "MatMul", integers(np.int8, 2, 3, 4), integers(np.uint8, 2, 4, 5), a_zero_point=-1, b_zero_point=128
    ),
    quant("MatMul", integers(np.int8, 33), integers(np.int8, 33, 5), a_zero_point=-128),
    quant("Lookup", X, integers(np.uint8, 256)),
    quant("Lookup", U, integers(np.int8, 256)),
    quant("MatMul", np.full((1, 60000), 255, np.uint8), np.full((60000, 3), -127, np.int8)),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


SCALE = 0.05


def dequantized(g: Draft, x: Value, zero: int = 3) -> Value:
    return g.op("DequantizeLinear", x, g.const(SCALE), g.const(zero, x.dtype.numpy.type))


def quantized(g: Draft, x: Value, zero: int = 3, dtype: type = np.uint8) -> Value:
    return g.op("QuantizeLinear", x, g.const(SCALE), g.const(zero, dtype))


def convolved(g: Draft, x: Value, channels: int, kernel: int, **attributes: object) -> Value:
    """x are bytes, and so is what it makes."""
    depth = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    data = g.random.integers(-127, 128, (channels, depth, kernel, kernel))
    scale = g.random.uniform(0.5, 1.0, channels) / (64 * np.sqrt(depth) * kernel)
    w = g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale), axis=0)
    zero = int(x.producer.inputs[2].scalar()) if x.producer is not None else 3  # type: ignore[union-attr,arg-type]
    return g.op("Conv", dequantized(g, x, zero), w, **attributes)


def network() -> Graph:
    """Few channels, blocks filled in part, groups of whole blocks, a residual, activations, pools, a product."""
    g = Draft()
    image = g.input(1, 3, 11, 9, dtype=DType.uint8)
    x = quantized(g, g.op("Relu", convolved(g, image, 20, 3, strides=(2, 2), pads=(1, 1, 1, 1))))
    y = quantized(g, convolved(g, x, 20, 3, group=20, pads=(1, 1, 1, 1)), 130)
    y = quantized(g, g.op("HardSwish", convolved(g, y, 20, 1)), 9)
    total = quantized(g, g.op("Add", dequantized(g, x), dequantized(g, y, 9)))
    z = quantized(g, convolved(g, total, 32, 1), 90)
    z = quantized(g, convolved(g, z, 32, 3, group=2, pads=(0, 1, 1, 0)), 100)
    pooled = g.op("MaxPool", dequantized(g, z, 100), kernel_shape=(2, 2), strides=(2, 2))
    larger = g.op("Resize", dequantized(g, z, 100), None, g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    first, second = g.ops("Split", larger, outputs=2, axis=1, num_outputs=2)
    both = quantized(g, g.op("Concat", second, first, axis=1), 100)
    g.output(quantized(g, convolved(g, both, 16, 1, strides=(2, 2)), 111))
    mean = quantized(g, g.op("AveragePool", pooled, kernel_shape=pooled.static_shape[2:]))
    w = g.op("DequantizeLinear", g.const(g.random.integers(-127, 128, (32, 5)), np.int8), g.const(0.002))
    rows = g.op("Reshape", dequantized(g, mean), g.ints(1, 32))
    both = g.op("Max", dequantized(g, total), dequantized(g, y, 9))
    looked = quantized(g, g.op("Sigmoid", dequantized(g, total)), 7)
    g.output(looked, quantized(g, both))
    g.output(y, total, z, mean, quantized(g, g.op("MatMul", rows, w), 128))
    return g.graph


def test_images_in_blocks(tmp_path: Path) -> None:
    graph = legalized(network())
    target = load_target("host")
    inputs = {"x0": np.random.default_rng(5).integers(0, 256, (1, 3, 11, 9)).astype(np.uint8)}
    want = run(graph, inputs)
    got = run_compiled(compile_model([grouped_for(graph, target)], target, "net"), inputs, tmp_path)
    for name, expected in want.items():
        assert len(np.unique(expected)) > 4
        np.testing.assert_array_equal(got[name], expected, err_msg=name)


def test_the_contract_of_blocks() -> None:
    """What `passes/lower_integer.py` promises to templates."""
    groups = [node for node in grouped_for(legalized(network()), load_target("host")).nodes if is_fused(node)]
    bodies = [body_of(node) for node in groups]
    anchors = [node for body in bodies for node in body.nodes if node.is_op("Conv", domain=QUANT)]
    assert [blocked_of(node.inputs[0].type).block for node in anchors] == [3, *[16] * 5]  # type: ignore[union-attr]
    assert {blocked_of(node.output.type).block for node in anchors} == {16}  # type: ignore[union-attr]
    assert all(node.ints("kernel_shape") and node.output.dtype is DType.int32 for node in anchors)
    assert all(value.dtype in (DType.int8, DType.uint8) for node in groups for value in node.outputs)
    assert sum(node.is_op("Pack", domain=KERNEL) for body in bodies for node in body.nodes) == 1


@pytest.mark.parametrize("length", [24, 37])
def test_rows_of_bytes(length: int, tmp_path: Path) -> None:
    """Softmax and LayerNormalization read bytes and write bytes; exp and the order of a sum are worth a step."""
    g = Draft()
    x = dequantized(g, g.input(2, 5, length, dtype=DType.int8))
    rows = g.op("LayerNormalization", x, g.weight(length), g.weight(length), axis=-1)
    shares = g.op("QuantizeLinear", g.op("Softmax", x), g.const(1 / 256), g.const(0, np.uint8))
    g.output(quantized(g, rows, 128), shares)
    graph, target = legalized(g.graph), load_target("host")
    grouped = grouped_for(graph, target)
    bodies = [[node.op_type for node in body_of(group).nodes] for group in grouped.nodes if is_fused(group)]
    assert all((body[0], body[-1]) == ("DequantizeLinear", "QuantizeLinear") for body in bodies)
    inputs = {"x0": integers(np.int8, 2, 5, length)}
    want = run(graph, inputs)
    got = run_compiled(compile_model([grouped], target, "net"), inputs, tmp_path)
    for name, expected in want.items():
        assert len(np.unique(expected)) > 4
        assert np.abs(got[name].astype(int) - expected).max() <= 1
