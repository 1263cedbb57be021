"""Channels scaled between layers: the same function, weights that use their ranges alike."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Graph, Value
from graphopt.passes import catalog
from graphopt.passes.equalize import FARTHEST
from graphopt.pipeline import parse_pipeline
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

TOLERANCE = 1e-5
"""Each weight is rounded once more, at every round of scaling once."""


def conv(g: Draft, x: Value, inputs: int, outputs: int, size: int = 3, **attributes: object) -> Value:
    return g.op("Conv", x, g.weight(outputs, inputs, size, size), g.weight(outputs), **attributes)


def residual_free(g: Draft) -> Value:
    return conv(g, g.op("Relu", conv(g, g.input(1, 3, 7, 6), 3, 5)), 5, 4)


def chain(g: Draft) -> Value:
    """Through a depthwise convolution, a pooling and a reshape into a product."""
    first = g.op("Relu", conv(g, g.input(2, 3, 8, 7), 3, 6, 1))
    middle = conv(g, first, 1, 6, group=6, pads=(1, 1, 1, 1))
    pooled = g.op("GlobalAveragePool", g.op("LeakyRelu", middle, alpha=0.2))
    return g.op("Gemm", g.op("Reshape", pooled, g.ints(2, 6)), g.weight(6, 4), g.weight(4))


def transposed(g: Draft) -> Value:
    up = g.op(
        "ConvTranspose", g.input(1, 4, 3, 4), g.weight(4, 3, 2, 2), g.weight(6), group=2, strides=(2, 2)
    )
    return conv(g, up, 2, 6, group=3)


def products(g: Draft) -> Value:
    hidden = g.op("Gemm", g.input(2, 5), g.weight(7, 5), g.weight(7), transB=1, beta=0.5)
    return g.op("Gemm", g.op("Relu", hidden), g.weight(7, 3))


@pytest.mark.parametrize("build", [residual_free, chain, transposed, products])
def test_fires(build: Build, update_golden: bool) -> None:
    name = f"equalize_{build.__name__}"
    check_fires("equalize", "equalize", build, name, update_golden, tolerance=TOLERANCE)


def _ranges(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    first, second = (node for node in graph.nodes if node.is_op("Conv"))
    made_by, read_by = (np.abs(node.inputs[1].constant) for node in (first, second))  # type: ignore[union-attr]
    return made_by.max(axis=(1, 2, 3)), read_by.max(axis=(0, 2, 3))


def test_both_ends_have_one_range() -> None:
    graph = made(residual_free)
    parse_pipeline("equalize", catalog()).run(graph)
    outputs, inputs = _ranges(graph)
    assert np.allclose(outputs, inputs, rtol=0.02)


def test_a_channel_of_zeros_stays() -> None:
    graph = made(residual_free)
    first = next(iter(graph.nodes))
    weights = first.inputs[1].constant.copy()  # type: ignore[union-attr]
    weights[2] = 0
    weights[3] *= 1e9
    first.set_input(1, graph.add_constant(weights, "w"))
    parse_pipeline("equalize", catalog()).run(graph)
    outputs, _ = _ranges(graph)
    assert outputs[2] == 0 and np.isfinite(outputs).all()
    assert outputs[3] == pytest.approx(np.abs(weights[3]).max() / FARTHEST)


def clipped(g: Draft) -> Value:
    return conv(g, g.op("Clip", conv(g, g.input(1, 3, 7, 6), 3, 5), g.const(0), g.const(6)), 5, 4)


def read_twice(g: Draft) -> Value:
    x = conv(g, g.input(1, 3, 7, 6), 3, 5)
    return g.op("Add", g.op("GlobalAveragePool", conv(g, x, 5, 5)), g.op("GlobalAveragePool", x))


def last(g: Draft) -> Value:
    x = conv(g, g.input(1, 3, 7, 6), 3, 5)
    g.output(x, conv(g, x, 5, 4))
    return x


def reshaped(g: Draft) -> Value:
    x = g.op("Reshape", conv(g, g.input(1, 3, 3, 4), 3, 4), g.ints(1, 8))
    return g.op("Gemm", x, g.weight(8, 3))


def bias_computed(g: Draft) -> Value:
    x = g.op("Conv", g.input(1, 3, 7, 6), g.weight(5, 3, 3, 3), g.input(5))
    return conv(g, x, 5, 4)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (clipped, "lets no scale through"),
        (read_twice, "needed elsewhere"),
        (last, "needed elsewhere"),
        (reshaped, "lets no scale through"),
        (bias_computed, "computed"),
    ],
)
def test_stays(build: Build, reason: str) -> None:
    check_stays("equalize", "equalize", build, reason)
