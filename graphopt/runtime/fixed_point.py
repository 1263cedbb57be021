"""Requantisation in 32-bit fixed point: the second of the two exact definitions, for processors without floats.

    y = saturate(high(saturate32(x 2^shift) * multiplier) + zero_point)        high(p) = (p + 2^31) >> 32

x is int32, p a product in 64 bits, `multiplier` an even number of 0 to 2^31 - 2 and `shift` one of 0 to 16, both single
or one per channel; `>>` rounds down, so that `high` rounds to nearest and ties up. They stand for the scale

    c = multiplier 2^(shift - 32)        0 < c < 2^15

with shift 0 where c < 1/2, as it is behind almost every sum; else the least shift that leaves less than 1/2. The
multiplier is not normalised: small scales have few bits of it, and need no second rounding. `saturate` cuts to [low,
high] within the type of y. Where y is int32 the caller makes sure that it fits.

Error. The multiplier is within 1 of c 2^(32 - shift), so that the product is off by |x 2^shift| / 2^32 <= 1/2 at most,
and rounding by 1/2. The float definition (x and c rounded to float32, their product too, then to nearest even) is off
by 1/2 and |c x| 2^-22, which is below 1/8 where it does not saturate. Two integers that are less than 2 apart differ by
1 at most. Sums of a few thousand bytes are below 2^24: the first part is then 2^-8, and the two differ near ties alone.
What `saturate32` cuts becomes more than 2^28 in either definition, beyond any byte: with a shift, multiplier >= 2^30.

Cost. `high` is one instruction on Cortex-M4, M7 and M33 (smmulr), and in vectors of Cortex-M55 (vrmulh) and of NEON: an
even multiplier is twice what sqrdmulh wants, whose doubling can then not saturate. Cortex-M3 has smlal, which starts
from 2^31 and, above it, the zero point; rv32 has mulh and the carry out of mul. Cortex-M0+ multiplies halves, four
times. TFLite's definition rounds twice, ties away from zero, and costs more on every one of them.
"""

from __future__ import annotations

import numpy as np

LARGEST_SHIFT = 16
LARGEST_SCALE = 2.0 ** (LARGEST_SHIFT - 1)
"""Scales are below; more than 2^9 would make any sum but zero saturate to a byte."""

MULTIPLIER_BITS = 32
_INT32 = np.iinfo(np.int32)


def encoded(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The multipliers and shifts, in int32, that stand for `scale`; its numbers are above 0 and below LARGEST_SCALE."""
    exact = np.asarray(scale, np.float64)
    if not (np.isfinite(exact) & (exact > 0) & (exact < LARGEST_SCALE)).all():
        raise ValueError(f"scales are not between 0 and {LARGEST_SCALE:.0f}")
    shift = np.maximum(np.frexp(exact)[1] + 1, 0)
    half = np.rint(np.ldexp(exact, MULTIPLIER_BITS - 1 - shift))
    over = half >= 1 << 30
    half, shift = np.where(over, 1 << 29, half), np.where(over, shift + 1, shift)
    if shift.max(initial=0) > LARGEST_SHIFT:
        raise ValueError(f"scales are not between 0 and {LARGEST_SCALE:.0f}")
    return 2 * half.astype(np.int32), shift.astype(np.int32)


def high_product(x: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """The upper half of the product of two int32, rounded to nearest, ties up."""
    product = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    return ((product + (1 << 31)) >> MULTIPLIER_BITS).astype(np.int32)


def shifted_left(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """x 2^shift, saturated to int32."""
    return np.clip(np.asarray(x, np.int64) << shift, _INT32.min, _INT32.max).astype(np.int32)


def requantized(
    x: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray | None = None,
    *,
    zero_point: int = 0,
    low: int = int(_INT32.min),
    high: int = int(_INT32.max),
) -> np.ndarray:
    """The definition above, before the conversion to the type of y; in int32."""
    scaled = high_product(x if shift is None else shifted_left(x, shift), multiplier)
    return np.clip(scaled.astype(np.int64) + zero_point, low, high).astype(np.int32)
