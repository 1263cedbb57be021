"""One-dimensional convolutions that say they have two."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

SPEC = "squeeze-convolution"


def squeezed(g: Draft, x: Value, w: Value, *shape: int, **attributes: object) -> Value:
    return g.op("Reshape", g.op("Conv", x, w, **attributes), g.ints(*shape))


def column(g: Draft) -> Value:
    attributes = {"pads": (2, 0, 1, 0), "strides": (2, 3), "dilations": (1, 5)}
    return squeezed(g, g.input(2, 3, 9, 1), g.weight(4, 3, 3, 1), 2, 4, 5, **attributes)


def row(g: Draft) -> Value:
    x = g.op("Conv", g.input("N", 6, 1, 9), g.weight(4, 3, 1, 3), g.weight(4), group=2, kernel_shape=(1, 3))
    return g.op("Reshape", x, g.ints(-1, 4, 7))


def channels_last(g: Draft) -> Value:
    """As a channels-last framework writes it: the transpose moves pixels and channels alone."""
    x = g.op("Transpose", g.op("Reshape", g.input(1, 8, 3), g.ints(1, 8, 3, 1)), perm=(0, 2, 1, 3))
    return squeezed(g, x, g.weight(4, 3, 5, 1), 1, 4, 4)


@pytest.mark.parametrize("build", [column, row, channels_last])
def test_squeezes(build: Build, update_golden: bool) -> None:
    check_fires(SPEC, SPEC, build, f"squeeze_{build.__name__}", update_golden)


def test_a_transpose_goes_behind_the_reshape(update_golden: bool) -> None:
    check_fires(
        SPEC + ",canonicalize",
        "squeeze-transposed",
        channels_last,
        "squeeze_channels_last_whole",
        update_golden,
    )


def test_keeps_a_longer_image() -> None:
    def build(g: Draft) -> Value:
        return squeezed(g, g.input(1, 3, 9, 3), g.weight(4, 3, 3, 3), 1, 4, 7)

    check_stays(SPEC, SPEC, build, "longer than 1 along the axis")


def test_keeps_pads_along_the_axis() -> None:
    def build(g: Draft) -> Value:
        return squeezed(
            g, g.input(1, 3, 9, 1), g.weight(4, 3, 3, 1), 1, 4, 7, pads=(0, 1, 0, 0), strides=(1, 2)
        )

    check_stays(SPEC, SPEC, build, "pads along the axis")


def test_keeps_what_is_reshaped_otherwise() -> None:
    def build(g: Draft) -> Value:
        return squeezed(g, g.input(1, 3, 9, 1), g.weight(4, 3, 3, 1), 1, 28)

    check_stays(SPEC, SPEC, build, "does not drop one axis")


def test_keeps_a_batch_of_one() -> None:
    def build(g: Draft) -> Value:
        return squeezed(g, g.input(1, 3, 9, 2), g.weight(4, 3, 3, 1), 4, 7, 2)

    check_stays(SPEC, SPEC, build, "none of an image with two")


def test_keeps_a_convolution_read_twice() -> None:
    def build(g: Draft) -> Value:
        y = g.op("Conv", g.input(1, 3, 9, 1), g.weight(4, 3, 3, 1))
        return g.op(
            "Concat", g.op("Reshape", y, g.ints(28)), g.op("Reshape", g.op("Relu", y), g.ints(28)), axis=0
        )

    check_stays(SPEC, SPEC, build, "")


def test_keeps_a_transpose_that_is_folded_together() -> None:
    def build(g: Draft) -> Value:
        return g.op("Reshape", g.op("Transpose", g.input(2, 3, 4), perm=(0, 2, 1)), g.ints(2, 12))

    check_stays(SPEC, "squeeze-transposed", build, "drop axes of length 1 alone")
