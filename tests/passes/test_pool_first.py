"""Means before pointwise convolutions."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays


def conv(g: Draft, size: int = 1, **attributes: object) -> Value:
    return g.op("Conv", g.input(2, 6, 7, 9), g.weight(4, 6, size, size), g.weight(4), **attributes)


def transition(g: Draft) -> Value:
    return g.op("AveragePool", conv(g), kernel_shape=(2, 2), strides=(2, 2))


def beyond_the_pads(g: Draft) -> Value:
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 0, 1, 1), "ceil_mode": 1}
    return g.op("AveragePool", conv(g), **window)


def everywhere(g: Draft) -> Value:
    x = g.op("Conv", g.input(1, 6, 5, 5), g.weight(4, 3, 1, 1), group=2)
    return g.op("GlobalAveragePool", x)


@pytest.mark.parametrize("build", [transition, beyond_the_pads, everywhere])
def test_fires(build: Build, update_golden: bool) -> None:
    check_fires("pool-first", "pool-first", build, f"pool_first_{build.__name__}", update_golden)


def wide(g: Draft) -> Value:
    return g.op("AveragePool", conv(g, 3), kernel_shape=(2, 2), strides=(2, 2))


def strided(g: Draft) -> Value:
    return g.op("AveragePool", conv(g, strides=(2, 2)), kernel_shape=(2, 2), strides=(2, 2))


def padded(g: Draft) -> Value:
    return g.op("AveragePool", conv(g, pads=(1, 1, 1, 1)), kernel_shape=(2, 2), strides=(2, 2))


def counted(g: Draft) -> Value:
    window = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    return g.op("AveragePool", conv(g), count_include_pad=1, **window)


def dense(g: Draft) -> Value:
    return g.op("AveragePool", conv(g), kernel_shape=(3, 3), pads=(1, 1, 1, 1))


def read_elsewhere(g: Draft) -> Value:
    x = conv(g)
    g.output(g.op("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2)), g.op("Relu", x))
    return x


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (wide, "is not pointwise"),
        (strided, "is not pointwise"),
        (padded, "is not pointwise"),
        (counted, "counts its pads"),
        (dense, "leave fewer pixels"),
        (read_elsewhere, "is also used by"),
    ],
)
def test_stays(build: Build, reason: str) -> None:
    check_stays("pool-first", "pool-first", build, reason)
