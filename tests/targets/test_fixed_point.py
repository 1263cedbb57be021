"""Fixed point on every kind of machine, to the bit: extremes, ties, vectors and what is left of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te

import graphopt
from graphopt.ir import QUANT, DType, Graph, TensorType, Value
from graphopt.runtime.fixed_point import encoded, high_product
from graphopt.runtime.reference import run as run_reference
from graphopt.targets import fixed_point
from graphopt.verification import runner
from tests.targets.conftest import runnable

INT32 = np.iinfo(np.int32)

TARGETS = [pytest.param(t, marks=runnable(t)) for t in ("host", "x86-64-v2", "rpi4", "rpi-armv7")]


def sums(channels: int, seed: int = 0) -> np.ndarray:
    """The ends of int32, numbers around zero and powers of two, and random ones of all sizes; (channels, odd)."""
    random = np.random.default_rng(seed)
    powers = 1 << np.arange(31, dtype=np.int64)
    ends = [INT32.min, INT32.min + 1, INT32.max, INT32.max - 1]
    fixed = np.concatenate([np.arange(-40, 41), powers, -powers, powers - 1, ends])
    sizes = random.integers(0, 31, (channels, 150))
    scaled = (random.uniform(-1, 1, sizes.shape) * (1 << sizes)).astype(np.int64)
    return np.concatenate([np.tile(fixed, (channels, 1)), scaled], axis=1).astype(np.int32)


def requantize(graph: Graph, x: Value, scale: np.ndarray, dtype: DType, **attributes: int) -> Value:
    multiplier, shift = encoded(scale)
    operands = [x, graph.add_constant(multiplier, "multiplier")]
    if shift.any():
        operands.append(graph.add_constant(shift, "shift"))
    types = (TensorType(dtype, x.shape),)
    return graph.add("Requantize", operands, attributes, types=types, domain=QUANT).output


def requantizing(x: np.ndarray) -> Graph:
    """By one number, by channel, with shifts, to every type and with bounds."""
    graph, random = Graph("fixed", opset=24), np.random.default_rng(1)
    value = graph.add_input("x", TensorType(DType.int32, x.shape))
    small = random.uniform(0.5, 1, (len(x), 1)) * 2.0 ** -random.integers(2, 34, (len(x), 1))
    mixed = random.uniform(0.5, 1, (len(x), 1)) * 2.0 ** random.integers(-10, 12, (len(x), 1))
    graph.add_output(requantize(graph, value, np.array(0.0123), DType.int8, zero_point=-11))
    graph.add_output(requantize(graph, value, np.array(2.0**-20), DType.uint8, zero_point=255))
    graph.add_output(requantize(graph, value, small, DType.int8, zero_point=-128, low=-100, high=50))
    graph.add_output(requantize(graph, value, mixed, DType.uint8, zero_point=3, low=3))
    graph.add_output(requantize(graph, value, small, DType.int32))
    return graph


@pytest.mark.parametrize("target", TARGETS)
def test_requantize(target: str, tmp_path: Path) -> None:
    x = sums(7)
    graph = requantizing(x)
    want = run_reference(graph, {"x": x})
    run, _ = runner(graphopt.compile(graph, target=target, out=tmp_path / "m"))
    got = run({"x": x})
    for name, expected in want.items():
        assert len(np.unique(expected)) > 20
        np.testing.assert_array_equal(got[name], expected, err_msg=name)


def pooling_and_softmax(x: np.ndarray, rows: np.ndarray) -> Graph:
    graph = Graph("fixed", opset=24)
    image = graph.add_input("x", TensorType(DType.of(x.dtype), x.shape))
    value = graph.add_input("rows", TensorType(DType.of(rows.dtype), rows.shape))
    windows = {"kernel_shape": (3, 2), "pads": (1, 0, 1, 1), "strides": (2, 1), "x_zero_point": -7}
    for attributes, out in ((windows, (4, 5)), ({"kernel_shape": x.shape[2:], "x_zero_point": 100}, (1, 1))):
        types = (TensorType(DType.int32, (*x.shape[:2], *out)),)
        graph.add_output(graph.add("SumPool", [image], attributes, types=types, domain=QUANT).output)
    for axis, steps, zero, dtype in ((2, 256, -128, DType.int8), (1, 255, 0, DType.uint8)):
        table = np.rint(np.exp(-0.04 * np.arange(256)) * (1 << 20)).astype(np.int32)
        attributes = {"axis": axis, "steps": steps, "zero_point": zero}
        types = (TensorType(dtype, rows.shape),)
        operands = [value, graph.add_constant(table, "table")]
        graph.add_output(graph.add("Softmax", operands, attributes, types=types, domain=QUANT).output)
    return graph


@pytest.mark.parametrize("target", TARGETS)
def test_pooling_and_softmax(target: str, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    inputs = {
        "x": random.integers(-128, 128, (2, 20, 7, 5)).astype(np.int8),
        "rows": random.integers(0, 256, (2, 3, 13)).astype(np.uint8),
    }
    graph = pooling_and_softmax(**inputs)
    want = run_reference(graph, inputs)
    run, _ = runner(graphopt.compile(graph, target=target, out=tmp_path / "m"))
    got = run(inputs)
    for name, expected in want.items():
        assert len(np.unique(expected)) > 10
        np.testing.assert_array_equal(got[name], expected, err_msg=name)


def test_by_halves_of_words() -> None:
    """As on a Cortex-M0+, run here: extremes, and a million random pairs."""
    random = np.random.default_rng(4)
    x = np.concatenate([sums(1)[0], random.integers(INT32.min, INT32.max, 1 << 20)]).astype(np.int32)
    edges = np.resize([0, 2, (1 << 31) - 2, 1 << 30, 0xFFFE, 0x10000], x.size - (1 << 20))
    m = np.concatenate([edges, 2 * random.integers(0, 1 << 30, 1 << 20)]).astype(np.int32)
    a, b = (te.placeholder(x.shape, "int32", name=name) for name in "ab")
    made = te.compute(x.shape, lambda i: fixed_point.high_product(a(i), b(i)), name="made")
    function = te.create_prim_func([a, b, made])
    written = function.with_body(fixed_point.lower_fixed_point(function.body, "thumbv6m-none-eabi"))
    module = tvm.compile(written, target="llvm")
    result = np.zeros_like(x)
    arrays = [tvm.runtime.tensor(array) for array in (x, m, result)]
    module(*arrays)
    np.testing.assert_array_equal(arrays[2].numpy(), high_product(x, m))
