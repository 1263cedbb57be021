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


LAST_TO_FIRST = (0, 3, 1, 2)


def turned(g: Draft, *, channels: int = 0) -> Value:
    pads = (0, 1, 2, 0, 0, 0, 1, channels)
    return g.op("Transpose", g.op("Pad", g.input("N", 6, 6, 3), g.ints(*pads)), perm=LAST_TO_FIRST)


def turned_conv(g: Draft) -> Value:
    return g.op("Conv", turned(g), g.weight(4, 3, 3, 3), pads=(1, 0, 0, 1))


def test_folds_behind_a_transpose(update_golden: bool) -> None:
    check_fires("fold-pad", "fold-pad-behind-transpose", turned_conv, "pad_turned_conv", update_golden)


def test_channels_padded_behind_a_transpose_stay() -> None:
    def build(g: Draft) -> Value:
        return g.op("Conv", turned(g, channels=1), g.weight(4, 4, 3, 3))

    check_stays("fold-pad", "fold-pad-behind-transpose", build, "pads batch or channels")


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


def auto_padded(g: Draft) -> Value:
    return g.op("Conv", padded(g), g.weight(4, 3, 3, 3), auto_pad="SAME_UPPER")


def indices(g: Draft) -> Value:
    x = padded(g, g.const(-np.inf))
    g.output(*g.ops("MaxPool", x, outputs=2, kernel_shape=(3, 3)))
    return x


def is_output(g: Draft) -> Value:
    x = padded(g)
    g.output(x, g.op("Conv", x, g.weight(4, 3, 3, 3)))
    return x


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
        (auto_padded, "the window pads by itself"),
        (indices, "the indices of the maxima are used"),
        (is_output, "is a graph output"),
        (fans_out, "is also used by"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays("fold-pad", "fold-pad", build, reason)
