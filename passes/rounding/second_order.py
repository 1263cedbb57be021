"""Rounding one weight after the other, each error spread over the weights that are still to be rounded.

The error of a row is d H d^T (`moments.py`). When weight k is fixed at an error e, the weights behind it that lose
least move by -e U[k, k+1:] / U[k, k], where U^T U = H^-1 and U is upper triangular.

Source: Frantar et al. 2022, GPTQ; the order of columns is the layer's own.
"""

from __future__ import annotations

import numpy as np

from graphopt.passes.rounding.grid import Grid

BLOCK = 64
"""Columns whose errors are handed to all the columns behind them at once; of matrices that are inverted directly."""


def inverse_factor(hessian: np.ndarray) -> np.ndarray:
    """The upper triangular U with U^T U = H^-1, for each (k, k) of (g, k, k).

    With rows and columns in reverse order, H = L L^T; U is the inverse of L in reverse order.
    """
    lower = np.linalg.cholesky(hessian[:, ::-1, ::-1])
    return np.ascontiguousarray(_inverted(lower)[:, ::-1, ::-1])


def _inverted(lower: np.ndarray) -> np.ndarray:
    """The inverses of lower triangular matrices (g, k, k), made of those of their halves."""
    size = lower.shape[-1]
    if size <= BLOCK:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    above, below = _inverted(lower[:, :half, :half]), _inverted(lower[:, half:, half:])
    made = np.zeros_like(lower)
    made[:, :half, :half], made[:, half:, half:] = above, below
    made[:, half:, :half] = -below @ (lower[:, half:, :half] @ above)
    return made


def round_in_order(
    rows: np.ndarray, factor: np.ndarray, grid: Grid, held: np.ndarray | None = None
) -> np.ndarray:
    """Integers for `rows` (g, m, k) on `grid`; `factor` is U of (g, k, k). Those that are `held` become zero."""
    left, integers = rows.copy(), np.empty_like(rows)
    scale, zero = grid.along(grid.scale), grid.along(grid.zero_point)
    size = rows.shape[-1]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((*rows.shape[:-1], stop - start))
        for k in range(start, stop):
            rounded = np.rint(left[..., k] / scale[..., k]) + zero[..., k]
            if held is not None:
                rounded = np.where(held[..., k], zero[..., k], rounded)
            integers[..., k] = np.clip(rounded, grid.low, grid.high)
            made = (integers[..., k] - zero[..., k]) * scale[..., k]
            error = (left[..., k] - made) / factor[:, k, k, None]
            errors[..., k - start] = error
            left[..., k + 1 : stop] -= error[..., None] * factor[:, None, k, k + 1 : stop]
        left[..., stop:] -= errors @ factor[:, start:stop, stop:]
    return integers
