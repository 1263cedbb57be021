"""Batch normalisation into its neighbours."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "fold-batchnorm"
INTO = "fold-batchnorm-into-producer"


def batchnorm(g: Draft, x: Value, channels: int, **attributes: object) -> Value:
    statistics = (
        g.weight(channels),
        g.weight(channels),
        g.weight(channels),
        g.weight(channels, positive=True),
    )
    return g.op("BatchNormalization", x, *statistics, **attributes)


def after_conv(g: Draft) -> Value:
    return batchnorm(g, g.op("Conv", g.input(2, 3, 5, 6), g.weight(4, 3, 3, 2), g.weight(4)), 4)


def after_depthwise(g: Draft) -> Value:
    return batchnorm(g, g.op("Conv", g.input(1, 6, 5, 5), g.weight(6, 1, 3, 3), group=6), 6)


def after_grouped(g: Draft) -> Value:
    return batchnorm(g, g.op("Conv", g.input(1, 4, 5), g.weight(6, 2, 3), g.weight(6), group=2), 6)


def after_transposed_grouped(g: Draft) -> Value:
    y = g.op("ConvTranspose", g.input(1, 4, 3, 3), g.weight(4, 3, 2, 2), g.weight(6), group=2, strides=(2, 2))
    return batchnorm(g, y, 6)


def after_gemm(g: Draft) -> Value:
    y = g.op("Gemm", g.input(3, 5), g.weight(4, 5), g.weight(4), transB=1, alpha=0.5, beta=2.0)
    return batchnorm(g, y, 4, epsilon=1e-3)


def after_dynamic_batch(g: Draft) -> Value:
    return batchnorm(g, g.op("Conv", g.input("N", 3, 5, 5), g.weight(4, 3, 1, 1)), 4)


@pytest.mark.parametrize(
    "build",
    [
        after_conv,
        after_depthwise,
        after_grouped,
        after_transposed_grouped,
        after_gemm,
        after_dynamic_batch,
    ],
)
def test_folds_into_its_producer(build: Build, update_golden: bool) -> None:
    check_fires(PASS, INTO, build, f"batchnorm_{build.__name__}", update_golden)


def test_alone_becomes_scale_and_shift(update_golden: bool) -> None:
    def build(g: Draft) -> Value:
        return batchnorm(g, g.input(2, 3, 4, 4), 3)

    check_fires(PASS, "batchnorm-to-affine", build, "batchnorm_alone", update_golden)


def test_shared_weights_are_folded_for_one_reader_only(update_golden: bool) -> None:
    def build(g: Draft) -> Value:
        x, w = g.input(1, 3, 4, 4), g.weight(4, 3, 1, 1)
        g.output(batchnorm(g, g.op("Conv", x, w), 4), g.op("Conv", x, w))
        return x

    check_fires(PASS, INTO, build, "batchnorm_shared_weights", update_golden)


def fans_out(g: Draft) -> Value:
    y = g.op("Conv", g.input(1, 3, 4, 4), g.weight(4, 3, 1, 1))
    return g.op("Add", batchnorm(g, y, 4), y)


def is_output(g: Draft) -> Value:
    y = g.op("Conv", g.input(1, 3, 4, 4), g.weight(4, 3, 1, 1))
    g.output(y, batchnorm(g, y, 4))
    return y


def computed_weights(g: Draft) -> Value:
    return batchnorm(g, g.op("Conv", g.input(1, 3, 4, 4), g.input(4, 3, 1, 1)), 4)


def bias_by_row(g: Draft) -> Value:
    return batchnorm(g, g.op("Gemm", g.input(3, 5), g.weight(5, 4), g.weight(3, 1)), 4)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (fans_out, "is also used by"),
        (is_output, "is a graph output"),
        (computed_weights, "is not a constant"),
        (bias_by_row, "varies from row to row"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays(PASS, INTO, build, reason)


def test_a_variance_below_zero_is_left_alone() -> None:
    def build(g: Draft) -> Value:
        y = g.op("Conv", g.input(1, 2, 3, 3), g.weight(2, 2, 1, 1))
        return g.op("BatchNormalization", y, g.weight(2), g.weight(2), g.weight(2), g.const([-1.0, 1.0]))

    check_stays(PASS, INTO, build, "no finite scale")
