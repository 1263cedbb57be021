"""Requantisation in fixed point against Python's integers, and its distance from the float definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from graphopt.runtime.fixed_point import (
    LARGEST_SCALE,
    LARGEST_SHIFT,
    encoded,
    high_product,
    requantized,
    shifted_left,
)

INT32 = np.iinfo(np.int32)

SUMS = np.array(
    sorted(
        {
            0,
            *(
                s * (n + d)
                for n in (1, 255, 1 << 15, 1 << 23, 1 << 24, 1 << 30)
                for d in (-1, 0, 1)
                for s in (-1, 1)
            ),
        }
        | {INT32.min, INT32.min + 1, INT32.max, INT32.max - 1}
    ),
    np.int32,
)

SCALES = [2.0**-40, 2.0**-33, 1e-9, 3e-5, 0.0031, 0.1, 0.25, 0.4999999, 0.5, 0.7, 1.0, 1.5, 100.0, 32767.0]


def exact(x: int, multiplier: int, shift: int) -> int:
    """The definition without a limit of bits."""
    cut = min(max(x << shift, INT32.min), INT32.max)
    return (cut * multiplier + (1 << 31)) >> 32


@pytest.mark.parametrize("scale", SCALES)
def test_is_the_formula(scale: float) -> None:
    multiplier, shift = encoded(np.array(scale))
    got = requantized(SUMS, multiplier, shift)
    assert got.tolist() == [exact(int(x), int(multiplier), int(shift)) for x in SUMS]


@pytest.mark.parametrize("multiplier", [0, 2, 1 << 16, (1 << 30) + 2, (1 << 31) - 2])
def test_high_product_at_the_ends(multiplier: int) -> None:
    got = high_product(SUMS, np.int32(multiplier))
    assert got.tolist() == [exact(int(x), multiplier, 0) for x in SUMS]


def test_ties_go_up() -> None:
    half = np.array([-3, -1, 1, 3, 5], np.int32)
    assert high_product(half, np.int32(1 << 30)).tolist() == [-1, 0, 0, 1, 1]
    quarter = high_product(np.array([-6, -2, 2, 6], np.int32), np.int32(1 << 30))
    assert quarter.tolist() == [-1, 0, 1, 2]


def test_shifts_saturate() -> None:
    got = shifted_left(np.array([1 << 30, -(1 << 30), -(1 << 31), 3], np.int32), np.int32(1))
    assert got.tolist() == [INT32.max, INT32.min, INT32.min, 6]


@pytest.mark.parametrize("scale", SCALES)
def test_multipliers_stand_for_the_scale(scale: float) -> None:
    multiplier, shift = (int(n) for n in encoded(np.array(scale)))
    assert multiplier % 2 == 0 and 0 <= multiplier < 1 << 31 and 0 <= shift <= LARGEST_SHIFT
    assert abs(Fraction(multiplier) - Fraction(scale) * 2 ** (32 - shift)) <= 1
    assert shift == 0 or multiplier >= 1 << 30
    assert (shift == 0) == (scale < 0.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, LARGEST_SCALE, np.inf, np.nan])
def test_other_scales_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 32768"):
        encoded(np.array([0.1, scale]))


def test_just_below_a_power_of_two() -> None:
    """What rounds up to it takes the next shift."""
    multiplier, shift = encoded(np.array([0.5 - 2.0**-40, 2.0 - 2.0**-40]))
    assert multiplier.tolist() == [1 << 30, 1 << 30] and shift.tolist() == [1, 3]


def float_definition(x: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
    rounded = np.rint(x.astype(np.float32) * scale).astype(np.float64)
    return np.clip(rounded + zero, -128, 127).astype(np.int64)


def test_at_most_one_step_from_floats() -> None:
    """Scales over 33 powers of two; sums where bytes change, at ties, and of any size."""
    random = np.random.default_rng(3)
    differ = total = 0
    for power in range(-30, 4):
        scale = np.float32(random.uniform(0.5, 1.0) * 2.0**power)
        multiplier, shift = encoded(np.asarray(scale))
        ties = (random.integers(-600, 600, 4000) + 0.5) / float(scale) + random.integers(-2, 3, 4000)
        anywhere = random.integers(INT32.min, INT32.max, 2000)
        small = random.integers(-(1 << 15), 1 << 15, 2000)
        x = np.concatenate([np.clip(ties, INT32.min, INT32.max), anywhere, small, SUMS]).astype(np.int32)
        for zero in (-128, 3, 127):
            got = requantized(x, multiplier, shift, zero_point=zero, low=-128, high=127)
            off = np.abs(got - float_definition(x, scale, zero))
            assert off.max() <= 1
            differ, total = differ + int((off > 0).sum()), total + x.size
    assert 0 < differ < total // 10
