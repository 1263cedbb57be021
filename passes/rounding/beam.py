"""Rounding in order with several roundings of each row kept, of which the best is taken at the end.

Handing on errors makes the error of a row a sum over its weights (`second_order.py`): d H d^T = sum of (e_k / U_kk)^2.
Rounding weight k to nearest is the best for its own term, not for those that follow. Here the two nearest integers are
both tried, and the rows that have lost least so far go on. Source: Guo and Nilsson 2006, the K-best sphere decoder.
"""

from __future__ import annotations

import numpy as np

from graphopt.passes.rounding.grid import Grid

WIDEST = 256
"""Roundings of a row that are kept, at most."""

WORK = 1.2e7
"""Multiplications of a layer, about: a tenth of a second."""


def width_for(rows: np.ndarray) -> int:
    """How many roundings of each of `rows` (g, m, k) are worth the wait; 0 or 1 where none but the first is."""
    return min(WIDEST, int(WORK // max(rows.size * rows.shape[-1], 1)))


def round_by_beam(rows: np.ndarray, factor: np.ndarray, grid: Grid, width: int) -> np.ndarray:
    """Integers for `rows` (g, m, k) on `grid`, `width` roundings of each kept; `factor` is U of (g, k, k)."""
    _, by_group, size = rows.shape
    scale, zero = (_flat(grid.along(numbers), rows.shape) for numbers in (grid.scale, grid.zero_point))
    left, lost = rows.reshape(-1, 1, size).copy(), np.zeros((rows.size // size, 1))
    integers = np.empty((len(left), 1, size), np.int16)
    for k in range(size):
        step, origin = scale[:, k, None], zero[:, k, None]
        exact = left[..., k] / step
        nearest = np.rint(exact)
        next_nearest = nearest + np.where(exact < nearest, -1, 1)
        tried = np.clip(np.stack([nearest, next_nearest], -1) + origin[..., None], grid.low, grid.high)
        made = (tried - origin[..., None]) * step[..., None]
        weights = np.repeat(factor[:, k, k:], by_group, axis=0)
        errors = (left[..., k, None] - made) / weights[:, :1, None]
        total = (lost[..., None] + errors**2).reshape(len(left), -1)
        kept = np.argsort(total, axis=1, kind="stable")[:, :width]
        before = kept // 2
        lost = np.take_along_axis(total, kept, 1)
        error = np.take_along_axis(errors.reshape(total.shape), kept, 1)
        left, integers = (np.take_along_axis(a, before[..., None], 1) for a in (left, integers))
        integers[..., k] = np.take_along_axis(tried.reshape(total.shape), kept, 1)
        left[..., k + 1 :] -= error[..., None] * weights[:, None, 1:]
    return integers[:, 0].reshape(rows.shape).astype(rows.dtype)


def _flat(numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(numbers, shape).reshape(-1, shape[-1])
