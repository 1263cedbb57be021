"""Batch normalisation into its neighbours."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "fold-batchnorm"
INTO = "fold-batchnorm-into-producer"
BEFORE = "fold-batchnorm-into-consumer"


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


def after_matmul(g: Draft) -> Value:
    return batchnorm(g, g.op("MatMul", g.input("N", 5), g.weight(5, 4)), 4)


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
        after_matmul,
        after_dynamic_batch,
    ],
)
def test_folds_into_its_producer(build: Build, update_golden: bool) -> None:
    check_fires(PASS, INTO, build, f"batchnorm_{build.__name__}", update_golden)


def before_conv(g: Draft) -> Value:
    return g.op("Conv", batchnorm(g, g.input(1, 3, 4, 4), 3), g.weight(2, 3, 2, 2), g.weight(2))


def before_depthwise(g: Draft) -> Value:
    return g.op("Conv", batchnorm(g, g.input("N", 4, 4), 4), g.weight(4, 1, 3), group=4)


def before_gemm(g: Draft) -> Value:
    x = batchnorm(g, g.input(3, 5), 5)
    return g.op("Gemm", x, g.weight(4, 5), g.weight(4), transB=1, alpha=0.5, beta=2.0)


def before_matmul(g: Draft) -> Value:
    return g.op("MatMul", batchnorm(g, g.input(3, 5), 5), g.weight(5, 4))


def before_padded_without_shift(g: Draft) -> Value:
    """A shift of zero leaves the pads zero."""
    zeros = g.const([0.0, 0.0])
    x = g.op("BatchNormalization", g.input(1, 2, 4, 4), g.weight(2), zeros, zeros, g.weight(2, positive=True))
    return g.op("Conv", x, g.weight(3, 2, 3, 3), pads=(1, 1, 1, 1))


def before_transposed(g: Draft) -> Value:
    zeros = g.const([0.0, 0.0])
    x = g.op("BatchNormalization", g.input(1, 2, 3, 3), g.weight(2), zeros, zeros, g.weight(2, positive=True))
    return g.op("ConvTranspose", x, g.weight(2, 3, 2, 2), strides=(2, 2))


@pytest.mark.parametrize(
    "build",
    [
        before_conv,
        before_depthwise,
        before_gemm,
        before_matmul,
        before_padded_without_shift,
        before_transposed,
    ],
)
def test_folds_into_its_consumer(build: Build, update_golden: bool) -> None:
    check_fires(PASS, BEFORE, build, f"batchnorm_{build.__name__}", update_golden)


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


def three_axes(g: Draft) -> Value:
    return batchnorm(g, g.op("MatMul", g.input(2, 3, 5), g.weight(5, 3)), 3)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (three_axes, "are not its last axis"),
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


def before_padded(g: Draft) -> Value:
    x = batchnorm(g, g.input(1, 3, 4, 4), 3)
    return g.op("Conv", x, g.weight(2, 3, 3, 3), pads=(1, 1, 1, 1))


def before_transposed_shifted(g: Draft) -> Value:
    return g.op("ConvTranspose", batchnorm(g, g.input(1, 2, 3, 3), 2), g.weight(2, 3, 2, 2))


def before_two(g: Draft) -> Value:
    x = batchnorm(g, g.input(1, 3, 4, 4), 3)
    g.output(*(g.op("Conv", x, g.weight(2, 3, 1, 1)) for _ in range(2)))
    return x


def before_and_output(g: Draft) -> Value:
    x = batchnorm(g, g.input(1, 3, 4, 4), 3)
    g.output(x, g.op("Conv", x, g.weight(2, 3, 1, 1)))
    return x


def before_rows(g: Draft) -> Value:
    """The rows are normalised, the columns are multiplied."""
    return g.op("MatMul", batchnorm(g, g.input(2, 4, 4), 4), g.weight(4, 3))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (before_padded, "pads its input with zeros"),
        (before_transposed_shifted, "pads its input with zeros"),
        (before_two, "is also used by"),
        (before_and_output, "is a graph output"),
        (before_rows, "are not those that are normalised"),
    ],
)
def test_declines_before(build: Build, reason: str) -> None:
    check_stays(PASS, BEFORE, build, reason)


def test_statistics_that_are_used_in_training_are_left_alone() -> None:
    def build(g: Draft) -> Value:
        y, mean, _ = g.ops(
            "BatchNormalization",
            g.input(2, 3, 4),
            *(g.weight(3) for _ in range(3)),
            g.weight(3, positive=True),
            outputs=3,
            training_mode=1,
        )
        g.output(y, mean)
        return y

    check_stays(PASS, "batchnorm-to-affine", build, "is in training mode")
