"""Which weights of a layer go, and what the others become: second order, by what the layer reads.

With dense rows w' and the second moments H of operands (`rounding/moments.py`), sparse rows w lose

    (w - w') H (w - w')^T

Weights and mask are found together by the alternating direction method: w solves the least squares with a pull towards
a sparse copy z, z is w with its least weights left out, and the pull adds up what the two differ by. Columns are scaled
so that H has ones on its diagonal: the least weights are then those that change results least. The share of zeros grows
over the rounds. At last each row is solved exactly on its mask.

Sources: Boža 2024 (alternating directions); Frantar and Alistarh 2023 (SparseGPT), Hassibi and Stork 1993 (the loss).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.passes.rounding.moments import squared_error
from graphopt.passes.sparsity.patterns import Pattern

ROUNDS = 30
GROWING = 20
"""In so many of the rounds the share of zeros grows."""

PULL = 1.0
"""Towards the sparse copy, as a share of what a weight counts by itself."""

STEPS = 40
"""Of conjugate gradients."""

MOST, FEWEST, WORK = 96, 12, 2.4e8
"""Rows of a layer that tell what it loses, at most and at least; multiplications of a round that they may take."""

MOST_WORK = 2e10
"""Multiplications up to which rows are solved exactly."""


def sparse(weights: np.ndarray, hessian: np.ndarray, pattern: Pattern, ratio: float) -> np.ndarray:
    """The rows (g, m, k) nearest to `weights` for a positive definite `hessian` (g, k, k), `ratio` of them zero."""
    return solved(weights, hessian, Selection(weights, hessian).mask(pattern, ratio))


def curve(weights: np.ndarray, hessian: np.ndarray, pattern: Pattern, levels: Sequence[float]) -> list[float]:
    """What is lost at each share of zeros, as a share of the energy of results: of some of the rows, for all."""
    count = int(np.clip(WORK // hessian.shape[-1] ** 2, FEWEST, MOST))
    some = np.unique(np.linspace(0, weights.shape[1] - 1, count).astype(int))
    rows = weights[:, some]
    selection = Selection(rows, hessian)
    found = []
    for level in levels:
        mask = selection.mask(pattern, level)
        made = _by_gradients(rows, hessian, mask)
        found.append(lost_share(rows, made, hessian))
    return found


class Selection:
    """A layer's weights (g, m, k), prepared for several shares of zeros."""

    def __init__(self, weights: np.ndarray, hessian: np.ndarray) -> None:
        scale = np.sqrt(np.diagonal(hessian, axis1=1, axis2=2))[:, None, :]
        normal = (hessian / (scale * scale.transpose(0, 2, 1))).astype(np.float32)
        self._scaled = (weights * scale).astype(np.float32)
        self._wanted = self._scaled @ normal
        self._inverse = np.linalg.inv(normal + PULL * np.eye(normal.shape[-1], dtype=np.float32))

    def mask(self, pattern: Pattern, ratio: float) -> np.ndarray:
        """Which weights stay."""
        free, owed = self._scaled, np.zeros_like(self._scaled)
        mask = np.ones(free.shape, bool)
        for number in range(ROUNDS):
            share = ratio * (1 - (1 - min((number + 1) / GROWING, 1.0)) ** 3)
            mask = pattern.kept(np.square(free + owed), share)
            copy = np.where(mask, free + owed, 0)
            owed = owed + free - copy
            free = (self._wanted + PULL * (copy - owed)) @ self._inverse
        return mask


def solved(weights: np.ndarray, hessian: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The rows nearest to `weights` among those that are zero where `mask` is false.

    Row by row; of layers so large that this would take too long, by steps of conjugate gradients for all rows at once.
    """
    counts = mask.sum(-1).astype(np.float64)
    if (counts**3).sum() / 3 > MOST_WORK:
        return _by_gradients(weights, hessian, mask)
    wanted = weights @ hessian
    found = np.zeros_like(weights)
    for group in range(weights.shape[0]):
        for row in range(weights.shape[1]):
            chosen = np.flatnonzero(mask[group, row])
            part = hessian[group][np.ix_(chosen, chosen)]
            found[group, row, chosen] = np.linalg.solve(part, wanted[group, row, chosen])
    return found


def _by_gradients(weights: np.ndarray, hessian: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Conjugate gradients with the diagonal for a preconditioner, each row on its own mask; in float32."""
    hessian, rows = hessian.astype(np.float32), np.where(mask, weights, 0).astype(np.float32)
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)[:, None, :]
    left = np.where(mask, (weights.astype(np.float32) - rows) @ hessian, 0)
    step = left / diagonal
    energy = (left * step).sum(-1, keepdims=True)
    for _ in range(STEPS):
        image = np.where(mask, step @ hessian, 0)
        curvature = (step * image).sum(-1, keepdims=True)
        length = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
        rows = rows + length * step
        left = left - length * image
        ahead = left / diagonal
        now = (left * ahead).sum(-1, keepdims=True)
        step = ahead + np.divide(now, energy, out=np.zeros_like(now), where=energy > 0) * step
        energy = now
    return np.where(mask, rows, 0).astype(weights.dtype)


def lost_share(weights: np.ndarray, made: np.ndarray, hessian: np.ndarray) -> float:
    """What is lost, as a share of the energy of results."""
    energy = float(squared_error(weights, hessian).sum())
    return float(squared_error(weights - made, hessian).sum()) / energy if energy else 0.0
