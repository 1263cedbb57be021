"""Resize against onnx.reference: every mode, every coordinate transformation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.targets.lower.kernels import (
    Case,
    Outputs,
    assert_close,
    assert_same,
    case,
    expected_of,
    kernel_of,
    names,
    run_cases,
)

RANDOM = np.random.default_rng(5)

TOLERANCE = 3e-6
"""float32: 12 roundings of 2^-24 on two axes, cubic weights whose magnitudes add up to 1.4 an axis, and elements up
to twice as large as those of the output."""

X = RANDOM.normal(size=(1, 2, 6, 5)).astype(np.float32)
VOLUME = RANDOM.normal(size=(2, 3, 2, 4, 5)).astype(np.float32)
ROI = np.asarray([0, 0, 0.25, -0.125, 1, 1, 0.875, 1.25], np.float32)
TRANSFORMATIONS = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def scaled(x: np.ndarray, *scales: float, **attributes: object) -> Case:
    return case("Resize", x, ROI, np.asarray([1, 1, *scales], np.float32), **attributes)


def not_smaller() -> Case:
    """The reference does not count axes from the back."""
    options = {"mode": "linear", "keep_aspect_ratio_policy": "not_smaller"}
    right = expected_of(sized(X, 9, 4, axes=(3, 2), **options))
    return case("Resize", X, None, None, [9, 4], axes=(-1, -2), expected=right, **options)


def unrounded_corners() -> Case:
    """ONNX's node case `resize_downsample_scales_linear_align_corners`: 4 * 0.6 - 1 is the length of the last gap."""
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    right = np.array([[[[1, 1 + 3 / 1.4]]]], np.float32)
    align = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return case("Resize", x, None, np.asarray([1, 1, 0.6, 0.6], np.float32), expected=[right], **align)


def sized(x: np.ndarray, *sizes: int, **attributes: object) -> Case:
    return case("Resize", x, None, None, np.asarray(sizes), **attributes)


NEAREST = [
    *(
        scaled(X, 1.6, 0.7, coordinate_transformation_mode=t, nearest_mode=r)
        for t, r in product(TRANSFORMATIONS, ROUNDINGS)
    ),
    scaled(X, 2, 3, mode="nearest"),
    scaled(RANDOM.integers(-9, 9, (1, 2, 6, 4)).astype(np.int8), 0.5, 2, nearest_mode="floor"),
    sized(X, 1, 2, 1, 8, coordinate_transformation_mode="align_corners"),
    sized(VOLUME, 2, 3, 5, 4, 7, nearest_mode="floor"),
]
"""Copies: equal to the bit."""

BYTES = RANDOM.integers(0, 256, (1, 2, 6, 5)).astype(np.uint8)

WEIGHTED = [
    *(
        scaled(X, 1.6, 0.7, coordinate_transformation_mode=t, mode=m)
        for t, m in product(TRANSFORMATIONS, ("linear", "cubic"))
    ),
    unrounded_corners(),
    scaled(X, 0.4, 1.5, mode="linear", antialias=1),
    scaled(X, 0.4, 0.6, mode="cubic", antialias=1, cubic_coeff_a=-0.5),
    scaled(X, 0.8, 1.5, mode="cubic", exclude_outside=1),
    scaled(X, 0.3, 0.3, mode="cubic", exclude_outside=1, antialias=1),
    scaled(
        X, 1.5, 2, mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.5
    ),
    sized(X, 9, 4, axes=(3, 2), mode="linear", keep_aspect_ratio_policy="not_larger"),
    not_smaller(),
    sized(X, 1, 1, 1, 1, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    sized(X[0], 3, 9, 5, mode="linear", antialias=1),
    sized(VOLUME, 2, 3, 5, 3, 9, mode="linear"),
    scaled(X.astype(np.float64), 1.3, 2.2, mode="cubic"),
    scaled(BYTES, 1.7, 0.6, mode="linear"),
    scaled(BYTES.astype(np.int8), 1.7, 0.6, mode="cubic", antialias=1),
]

CASES = [*NEAREST, *WEIGHTED]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(NEAREST)), ids=names(NEAREST))
def test_nearest(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], NEAREST[number])


@pytest.mark.parametrize("number", range(len(WEIGHTED)), ids=names(WEIGHTED))
def test_weighted(number: int, results: list[Outputs]) -> None:
    assert_close(results[len(NEAREST) + number], WEIGHTED[number], TOLERANCE)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_elements_are_gathered_before_there_are_more_rows(mode: str) -> None:
    kept = "alloc_buffer((1, 2, 6, 10)"
    assert kept in kernel_of(scaled(X, 3, 2, mode=mode))
    assert kept not in kernel_of(scaled(X, 0.5, 2, mode=mode))
