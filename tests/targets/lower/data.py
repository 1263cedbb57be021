"""Random operands of any element type, the same in every run."""

from __future__ import annotations

import numpy as np

RANDOM = np.random.default_rng(11)

HIGHEST = int(np.iinfo(np.int64).max)
LOWEST = int(np.iinfo(np.int64).min)


def data(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Numbers of about 50 and both signs, as far as `dtype` has them."""
    if dtype is np.bool_:
        return RANDOM.integers(0, 2, shape).astype(dtype)
    return np.asarray(RANDOM.normal(size=shape) * 50).astype(dtype)


def indices(dim: int, *shape: int, dtype: type = np.int64) -> np.ndarray:
    """Positions on an axis of `dim` elements, half of them counted from the end."""
    return RANDOM.integers(-dim, dim, shape).astype(dtype)


def whole(*shape: int, dtype: type = np.float32, limit: int = 8) -> np.ndarray:
    """Whole numbers below `limit`, whose small sums and products are exact in any order."""
    return RANDOM.integers(1 - limit, limit, shape).astype(dtype)
