"""Better integers, and better scales, from good ones.

Coordinate descent on d H d^T: with all other weights fixed, the best integer of weight k is the nearest to
q_k - (H d)_k / (H_kk s_k). With all integers fixed, the best scale of a group solves one linear equation. Neither
step ever makes the error larger.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphopt.passes.rounding.grid import Grid
from graphopt.passes.rounding.second_order import BLOCK

SWEEPS = 4


def descended(
    integers: np.ndarray,
    rows: np.ndarray,
    hessian: np.ndarray,
    grid: Grid,
    sweeps: int = SWEEPS,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Integers (g, m, k) with an error that no change of a single one makes smaller, or what `sweeps` reach.

    Those that are `held` stay.
    """
    integers = integers.copy()
    scale = grid.along(grid.scale)
    difference = grid.values(integers) - rows
    curvature = np.einsum("gkk->gk", hessian)[:, None, :] * scale
    size = rows.shape[-1]
    for _ in range(sweeps):
        changed = False
        for start in range(0, size, BLOCK):
            stop = min(start + BLOCK, size)
            slope = difference @ hessian[:, :, start:stop]
            for k in range(start, stop):
                best = np.rint(integers[..., k] - slope[..., k - start] / curvature[..., k])
                step = np.clip(best, grid.low, grid.high) - integers[..., k]
                if held is not None:
                    step = np.where(held[..., k], 0, step)
                if not step.any():
                    continue
                changed = True
                integers[..., k] += step
                moved = step * scale[..., k]
                difference[..., k] += moved
                slope += moved[..., None] * hessian[:, None, k, start:stop]
        if not changed:
            break
    return integers


def rescaled(integers: np.ndarray, rows: np.ndarray, hessian: np.ndarray, grid: Grid) -> Grid:
    """`grid` with the scales of least error for these integers, group after group."""
    scale = grid.scale.copy()
    units = integers - grid.along(grid.zero_point)
    difference = units * grid.along(scale) - rows
    for number in range(scale.shape[-1]):
        part = np.flatnonzero(grid.group_of == number)
        seen = units[..., part] @ hessian[:, part, :]
        slope = (seen * difference).sum(-1)
        curvature = (seen[..., part] * units[..., part]).sum(-1)
        step = np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
        now, best = scale[..., number], scale[..., number] - step
        better = grid.storable(best)
        better = np.where((better > now / 2) & (np.abs(better - best) < np.abs(now - best)), better, now)
        difference[..., part] += units[..., part] * (better - now)[..., None]
        scale[..., number] = better
    return replace(grid, scale=scale)
