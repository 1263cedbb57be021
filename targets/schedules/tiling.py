"""Choosing tile sizes."""

from __future__ import annotations

from graphopt.targets.device import Target


def lanes(target: Target, dtype_bits: int) -> int:
    """Elements in one vector register."""
    return max(target.vector_bits // max(dtype_bits, 8), 1)


def divisor(extent: int, limit: int) -> int:
    """The largest divisor of `extent` that is at most `limit`."""
    return next(d for d in range(min(extent, limit), 0, -1) if extent % d == 0)


def vector_width(extent: int, width: int) -> int:
    """How many of `extent` contiguous elements to treat as one vector, at most twice `width`.

    A power of two that divides is best. Else a divisor not below half the width, which the code generator
    splits into parts. 1 when there is neither: the axis is then split unevenly by the caller.
    """
    for candidate in (width, width // 2):
        if candidate > 1 and extent % candidate == 0:
            return candidate
    found = divisor(extent, 2 * width)
    return found if found >= max(width // 2, 2) else 1
