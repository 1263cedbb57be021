"""A network in fixed point through the whole compiler, on every kind of machine: blocks, both signs, groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType, Graph, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.onnx_io.write import to_bytes
from graphopt.passes.requantize_fixed import left_in_floats
from graphopt.preparation import grouped_for, legalized
from graphopt.runtime.reference import run
from graphopt.targets.device import Target, load_target
from graphopt.verification import runner, verify_bundle
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.lower.test_quant import convolved, dequantized, quantized

TARGETS = [pytest.param(t, marks=runnable(t)) for t in ("host", "x86-64-v2", "rpi4", "rpi-armv7")]


def network(dtype: DType) -> Graph:
    """Few channels, blocks filled in part, residuals quantised once and twice, a gate, a table, pools, a concatenation,
    a Softmax."""
    g, kind = Draft(), dtype.numpy.type
    middle = 128 if dtype is DType.uint8 else 0
    image = g.input(1, 3, 11, 9, dtype=dtype)
    x = quantized(
        g, g.op("HardSwish", convolved(g, image, 20, 3, strides=(2, 2), pads=(1, 1, 1, 1))), middle, kind
    )
    y = quantized(g, convolved(g, x, 20, 3, group=20, pads=(1, 1, 1, 1)), middle + 9, kind)
    once = g.op("Add", convolved(g, y, 20, 1), dequantized(g, x, middle))
    total = quantized(g, g.op("Clip", once, g.const(-3.0), g.const(4.0)), middle - 20, kind)
    twice = quantized(
        g, g.op("Add", dequantized(g, total, middle - 20), dequantized(g, y, middle + 9)), middle, kind
    )
    gate = quantized(g, g.op("Sigmoid", dequantized(g, twice, middle)), middle - 7, kind)
    gated = g.op("Mul", dequantized(g, twice, middle), dequantized(g, gate, middle - 7))
    z = quantized(g, convolved(g, quantized(g, gated, middle, kind), 32, 1), middle + 5, kind)
    wide = dequantized(g, z, middle + 5)
    averaged = quantized(g, g.op("AveragePool", wide, kernel_shape=(3, 3), pads=(1, 1, 0, 1)), middle, kind)
    mean = quantized(g, g.op("GlobalAveragePool", wide), middle + 2, kind)
    rows = g.op("Reshape", dequantized(g, mean, middle + 2), g.ints(1, 32))
    w = g.op("DequantizeLinear", g.const(g.random.integers(-127, 128, (32, 10)), np.int8), g.const(0.002))
    scores = quantized(g, g.op("MatMul", rows, w), middle, kind)
    shares = g.op("Softmax", dequantized(g, scores, middle))
    joined = g.op("Concat", dequantized(g, total, middle - 20), dequantized(g, gate, middle - 7), axis=1)
    g.output(total, gate, averaged, mean, scores, quantized(g, joined, middle + 3, kind))
    g.output(g.op("QuantizeLinear", shares, g.const(1 / 256), g.const(middle - 128, kind)))
    return g.graph


def fixed(target: str) -> Target:
    return dataclasses.replace(load_target(target), requantization="fixed")


@pytest.mark.parametrize("dtype", [DType.int8, DType.uint8])
@pytest.mark.parametrize("target", TARGETS)
def test_network(target: str, dtype: DType, tmp_path: Path) -> None:
    graph = network(dtype)
    inner = legalized(graph, fixed_point=True)
    grouped = grouped_for(inner, fixed(target))
    assert not left_in_floats(inner) and not left_in_floats(grouped)
    bounds = np.iinfo(dtype.numpy.name)
    x = np.random.default_rng(5).integers(bounds.min, bounds.max + 1, (1, 3, 11, 9)).astype(bounds.dtype)
    compiled, _ = runner(graphopt.compile(graph, target=fixed(target), out=tmp_path / "m"))
    got = compiled({"x0": x})
    for name, expected in run(inner, {"x0": x}).items():
        assert len(np.unique(expected)) > 4
        np.testing.assert_array_equal(got[name], expected, err_msg=name)


def test_groups_end_in_their_requantisation() -> None:
    """A residual that is quantised once joins its convolution; bytes alone lie between kernels."""
    grouped = grouped_for(legalized(network(DType.int8), fixed_point=True), fixed("rpi4"))
    bodies = [[node.op_type for node in body_of(group).nodes] for group in grouped.nodes if is_fused(group)]
    convolutions = [body for body in bodies if body[0] == "Conv" or "Conv" in body]
    assert len(convolutions) == 4 and all(body[-1] == "Requantize" for body in convolutions)
    assert sum(body.count("Requantize") == 2 and "Cast" in body for body in convolutions) == 1
    values = [value for group in grouped.nodes for value in group.outputs]
    assert {value.dtype for value in values} == {DType.int8}


def test_floats_stay_the_default() -> None:
    assert not load_target("host").is_fixed_point and left_in_floats(legalized(network(DType.int8)))
    assert load_target("cortex-m0plus").is_fixed_point


def test_verify_expects_fixed_point(tmp_path: Path) -> None:
    """To the bit; only a target that requantises in floats is held against ONNX Runtime."""
    path = tmp_path / "model.onnx"
    path.write_bytes(to_bytes(network(DType.int8)))
    found = verify_bundle(path, graphopt.compile(path, target=fixed("host"), out=tmp_path / "fixed").path)
    assert found.worst == 0 and found.oracle == "the reference evaluator in fixed point"
    found = verify_bundle(path, graphopt.compile(path, target="host", out=tmp_path / "float").path)
    assert found.oracle.startswith("ONNX Runtime")


def test_verify_knows_a_float_model(tmp_path: Path) -> None:
    path, g = tmp_path / "model.onnx", Draft()
    g.output(g.op("Relu", g.op("MatMul", g.input(2, 3), g.weight(3, 4))))
    path.write_bytes(to_bytes(g.graph))
    found = verify_bundle(path, graphopt.compile(path, target=fixed("host"), out=tmp_path / "m").path)
    assert found.agrees and found.oracle == "ONNX Runtime"


def tail(g: Draft) -> Value:
    """What no fixed point knows: an activation between a convolution and its quantisation."""
    return quantized(g, g.op("Tanh", convolved(g, g.input(1, 3, 5, 5, dtype=DType.uint8), 4, 1)))


def test_what_stays_in_floats_still_runs(tmp_path: Path) -> None:
    g = Draft()
    g.output(tail(g))
    inner = legalized(g.graph, fixed_point=True)
    assert any(node.op_type == "Tanh" for node in left_in_floats(inner))
    x = np.random.default_rng(2).integers(0, 256, (1, 3, 5, 5)).astype(np.uint8)
    compiled, _ = runner(graphopt.compile(g.graph, target=fixed("host"), out=tmp_path / "m"))
    (got,), (want,) = compiled({"x0": x}).values(), run(inner, {"x0": x}).values()
    assert np.abs(got.astype(int) - want).max() <= 1
