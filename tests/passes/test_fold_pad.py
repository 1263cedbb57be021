"""Padding into windows."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PADS = (0, 0, 1, 2, 0, 0, 0, 1)


def padded(g: Draft, *extra: Value, pads: tuple[int, ...] = PADS, **attributes: object) -> Value:
    return g.op("Pad", g.input(1, 3, 6, 6), g.ints(*pads), *extra, **attributes)


def conv(g: Draft) -> Value:
    return g.op("Conv", padded(g), g.weight(4, 3, 3, 3), pads=(0, 1, 1, 0))


def conv_with_axes(g: Draft) -> Value:
    x = g.op("Pad", g.input("N", 3, 6, 6), g.ints(1, 2, 2, 1), g.const(0.0), g.ints(2, -1))
    return g.op("Conv", x, g.weight(4, 3, 3, 3))


def max_pool(g: Draft) -> Value:
    return g.op("MaxPool", padded(g, g.const(-np.inf)), kernel_shape=(3, 3))


def average_pool(g: Draft) -> Value:
    return g.op("AveragePool", padded(g), kernel_shape=(3, 3), strides=(2, 2))


@pytest.mark.parametrize("build", [conv, conv_with_axes, max_pool, average_pool])
def test_folds(build: Build, update_golden: bool) -> None:
    check_fires("fold-pad", "fold-pad", build, f"pad_{build.__name__}", update_golden)


def reflected(g: Draft) -> Value:
    return g.op("Conv", padded(g, mode="reflect"), g.weight(4, 3, 3, 3))


def by_one(g: Draft) -> Value:
    return g.op("Conv", padded(g, g.const(1.0)), g.weight(4, 3, 3, 3))


def channels(g: Draft) -> Value:
    return g.op("Conv", padded(g, pads=(0, 1, 0, 0, 0, 0, 0, 0)), g.weight(4, 4, 3, 3))


def cut(g: Draft) -> Value:
    return g.op("Conv", padded(g, pads=(0, 0, -1, 0, 0, 0, 0, 0)), g.weight(4, 3, 3, 3))


def max_by_zero(g: Draft) -> Value:
    return g.op("MaxPool", padded(g), kernel_shape=(3, 3))


def average_with_pads(g: Draft) -> Value:
    return g.op("AveragePool", padded(g), kernel_shape=(3, 3), pads=(1, 1, 1, 1))


def fans_out(g: Draft) -> Value:
    x = padded(g)
    g.output(g.op("Conv", x, g.weight(4, 3, 3, 3)), g.op("Relu", x))
    return x


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (reflected, "pads by reflect"),
        (by_one, "not by zero"),
        (channels, "pads batch or channels"),
        (cut, "or cuts"),
        (max_by_zero, "may be a maximum"),
        (average_with_pads, "does not count its own pads"),
        (fans_out, "is also used by"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays("fold-pad", "fold-pad", build, reason)
