"""What a layer's squared error depends on: second moments of its operands.

With quantised operands x, wanted results y (those of the float model), rows of weights w and a bias b that is free,

    E |y - w x - b|^2  =  (w - w') H (w - w')^T + what no w changes        H = Cov(x)
    w'  =  Cov(y, x) H^-1                                                  b = E y - w E x

so that w' is what to round, and H says which errors hurt. w' makes up for the errors of the layers before. Samples
are few, so that H is damped. Source: Frantar et al. 2022 (H); Nagel et al. 2019 (b).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MOST_SHRUNK = 0.9


@dataclass(frozen=True)
class Moments:
    """Means of operands (g, k) and results (g, m), and their second moments: operands with operands (g, k, k), results
    with operands (g, m, k), each result with itself (g, m). In float64.
    """

    count: int
    operand_mean: np.ndarray
    result_mean: np.ndarray
    operands: np.ndarray
    both: np.ndarray
    power: np.ndarray

    @staticmethod
    def of(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> Moments:
        """Those of pairs of matrices, operands (g, p, k) and results (g, p, m)."""
        count, sums = 0, None
        for x, y in rows:
            across = x.transpose(0, 2, 1)
            products = (across @ x, y.transpose(0, 2, 1) @ x)
            power = np.einsum("gpm,gpm->gm", y, y, dtype=np.float64)
            wide = [
                x.sum(1, np.float64),
                y.sum(1, np.float64),
                *(p.astype(np.float64) for p in products),
                power,
            ]
            sums = wide if sums is None else [a + b for a, b in zip(sums, wide, strict=True)]
            count += x.shape[1]
        assert sums is not None
        return Moments(count, *(part / count for part in sums))

    def about_mean(self) -> Moments:
        """Covariances: what is left where a bias takes the means."""
        x, y = self.operand_mean, self.result_mean
        operands = self.operands - x[:, :, None] * x[:, None, :]
        both = self.both - y[:, :, None] * x[:, None, :]
        return Moments(self.count, x, y, operands, both, self.power - y * y)

    @property
    def rounding(self) -> np.ndarray:
        """What products in float32 are off by at most, for each group: of one sample, all of the covariance."""
        power = np.square(self.operand_mean).sum(1) + np.trace(self.operands, axis1=1, axis2=2)
        return np.finfo(np.float32).eps * np.maximum(power, 0.0)


def damping_for(moments: Moments, least: float) -> float:
    """How strongly moments of so few samples are to be damped: the more, the less directions differ in them.

    The shrinkage towards the identity that estimates a covariance best (Chen et al. 2010, OAS), and `least` at least.
    """
    size = moments.operands.shape[-1]
    trace = np.trace(moments.operands, axis1=1, axis2=2)
    square = np.square(moments.operands).sum(axis=(1, 2))
    wanted = (1 - 2 / size) * square + trace**2
    spread = (moments.count + 1 - 2 / size) * (square - trace**2 / size)
    share = np.minimum(
        np.divide(wanted, spread, out=np.ones_like(wanted), where=spread > wanted), MOST_SHRUNK
    )
    return max(least, float(np.mean(share / (1 - share))))


def damped(hessian: np.ndarray, damping: float, rounding: np.ndarray | float = 0.0) -> np.ndarray:
    """`hessian` (g, k, k) plus a share of its mean diagonal, and what it may be off by: positive definite."""
    size = hessian.shape[-1]
    mean = np.maximum(np.trace(hessian, axis1=1, axis2=2) / size, 0.0)
    return hessian + (damping * mean + rounding + np.finfo(np.float32).tiny)[:, None, None] * np.eye(size)


def refitted(moments: Moments, weights: np.ndarray, damping: float) -> np.ndarray:
    """The rows (g, m, k) with the least squared error, drawn to `weights` by the damping."""
    hessian = damped(moments.operands, damping, moments.rounding)
    pull = hessian - moments.operands
    wanted = moments.both + weights @ pull
    return np.linalg.solve(hessian, wanted.transpose(0, 2, 1)).transpose(0, 2, 1)


def mean_squared_error(moments: Moments, weights: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """E |y - w x - b|^2 of each row (g, m), from raw moments."""
    error = moments.power - 2 * (weights * moments.both).sum(-1) + squared_error(weights, moments.operands)
    if bias is not None:
        made = (weights * moments.operand_mean[:, None, :]).sum(-1)
        error = error + bias * (bias + 2 * made - 2 * moments.result_mean)
    return np.maximum(error, 0.0)


def squared_error(difference: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """d H d^T for each row of (g, m, k)."""
    return np.einsum("gmk,gmk->gm", difference @ hessian, difference)
