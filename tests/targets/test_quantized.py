"""Quantised layers in compiled kernels: the same bits as the reference, on every machine.

Sums of integers are exact, and each is scaled by one multiplication, so that neither their order nor contracted
multiply-adds show. The reference is numpy on the same graph; `tests/passes/test_lower_integer.py` holds that against
arithmetic in int64.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType, Graph, Value
from graphopt.preparation import legalized
from graphopt.runtime import reference
from graphopt.verification import runner
from tests.passes.helpers import Draft, made
from tests.targets.conftest import runnable

SCALE, ZERO = 0.047, -3
CHANNELS = 16


def quantized(g: Draft, x: Value, scale: float = SCALE) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(ZERO, np.int8))


def dequantized(g: Draft, x: Value, scale: float = SCALE) -> Value:
    return g.op("DequantizeLinear", x, g.const(scale), g.const(ZERO, np.int8))


def weights(g: Draft, *shape: int) -> Value:
    """With a scale for each filter that makes outputs about as large as inputs."""
    data = g.random.integers(-127, 128, shape).astype(np.int8)
    scale = g.random.uniform(0.5, 1.0, shape[0]) / (64 * np.sqrt(np.prod(shape[1:])))
    return g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale), axis=0)


def network(g: Draft) -> Value:
    """A convolution of channels-last bytes; a depthwise one; a pointwise one and what it is added to; a mean; a
    product. Some layers hand out bytes, some have one reader that takes their numbers on."""
    image = dequantized(g, g.input(1, 9, 9, 3, dtype=DType.int8))
    x = g.op("Transpose", image, perm=(0, 3, 1, 2))
    x = quantized(g, g.op("Conv", x, weights(g, CHANNELS, 3, 3, 3), pads=(1, 1, 1, 1)))
    y = g.op("Conv", dequantized(g, x), weights(g, CHANNELS, 1, 3, 3), group=CHANNELS, pads=(1, 1, 1, 1))
    y = quantized(g, g.op("Relu", y))
    y = quantized(g, g.op("Conv", dequantized(g, y), weights(g, CHANNELS, CHANNELS, 1, 1)))
    total = quantized(g, g.op("Max", dequantized(g, x), dequantized(g, y)))
    mean = quantized(g, g.op("GlobalAveragePool", dequantized(g, total)))
    flat = g.op("Flatten", mean)
    result = quantized(g, g.op("Gemm", dequantized(g, flat), weights(g, 5, CHANNELS), transB=1))
    g.output(y, total, result)
    return result


def assert_equal(graph: Graph, bundle: graphopt.Bundle, samples: int) -> None:
    run, _ = runner(bundle)
    prepared = legalized(graph)
    random = np.random.default_rng(3)
    for _ in range(samples):
        inputs = {v.name: random.integers(-128, 128, v.static_shape).astype(np.int8) for v in graph.inputs}
        want, got = reference.run(prepared, inputs), run(inputs)
        for name in want:
            assert len(np.unique(want[name])) > 2
            np.testing.assert_array_equal(got[name], want[name])


def test_equals_the_reference(tmp_path: Path) -> None:
    graph = made(network)
    assert_equal(graph, graphopt.compile(graph, out=tmp_path / "m"), 20)


@pytest.mark.parametrize("target", [pytest.param(t, marks=runnable(t)) for t in ("rpi4", "rpi-armv7")])
def test_equals_the_reference_elsewhere(target: str, tmp_path: Path) -> None:
    graph = made(network)
    assert_equal(graph, graphopt.compile(graph, target=target, out=tmp_path / "m"), 2)


def test_convolutions_end_in_bytes(tmp_path: Path) -> None:
    """Requantisation is part of the kernel of its convolution: no float image is written for it."""
    bundle = graphopt.compile(made(network), out=tmp_path / "m")
    layers = [layer for layer in bundle.report["layers"] if "Conv" in layer["operators"]]
    assert len(layers) == 3
    for layer in layers:
        assert layer["operators"][-1] == "QuantizeLinear"
