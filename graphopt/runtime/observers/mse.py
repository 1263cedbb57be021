"""The range with the smallest mean squared error of quantisation at a number of bits.

A narrower range has finer steps and clips more. Both are in the error sum over a histogram, bin by bin at its centre,
that a search minimises over either bound in turn. Zero is always exact, as in every quantisation of ONNX.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observation, Observer
from graphopt.runtime.observers.histogram import Counting

COARSE = 2.0 ** -(np.arange(21) / 2)
"""Shares of a bound that the search begins with: down to a thousandth, where a bin ends."""

FINE = np.linspace(1, -1, 17)[:, None]
"""Places between the neighbours of the best so far."""

STEP = 0.3
"""From a coarse share to the next one."""

ROUNDS = 3
"""Times that each bound is moved between such neighbours; ever more closely."""

BLOCK = 16
"""Ranges that are tried at once: their errors stay in the cache."""

BOTH, LOW, HIGH = np.array([True, True]), np.array([True, False]), np.array([False, True])
"""What moves."""


@dataclass(frozen=True)
class MeanSquaredError(Observer):
    """The range of the smallest mean squared error at `bits`; with `symmetric` one around zero."""

    name: ClassVar[str] = "mse"
    bits: int = 8
    symmetric: bool = False
    bins: int = 2048

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise UsageError(f"{self.bits} bits are none of 2 to 16", where=self.name)
        if self.bins < 8:
            raise UsageError(f"{self.bins} bins are too few", where=self.name, hint="give 8 or more")

    def start(self) -> Observation:
        return _LeastError(self)


class _LeastError(Counting):
    def __init__(self, observer: MeanSquaredError) -> None:
        super().__init__(observer.bins, with_zero=True)
        self._observer = observer

    def bounds_of(self, channel: int) -> tuple[float, float]:
        histogram, levels = self.histogram, (1 << self._observer.bits) - 1
        edges, counts = histogram.edges(channel), histogram.counts[channel]
        filled = counts > 0
        error = _Error((edges[:-1] + edges[1:])[filled] / 2, counts[filled].astype(np.float64))
        low, high = min(histogram.low[channel], 0.0), max(histogram.high[channel], 0.0)
        if self._observer.symmetric:
            high = max(-low, high)
            return error.least(-high, high, levels - 1, together=True)
        return error.least(low, high, levels)


@dataclass(frozen=True)
class _Error:
    """The squared error of quantising numbers that are there so many times each."""

    numbers: np.ndarray
    counts: np.ndarray

    def of(self, lows: np.ndarray, highs: np.ndarray, levels: int) -> np.ndarray:
        """Of each range, with steps from 0 to `levels`."""
        scale = np.maximum((highs - lows) / levels, np.finfo(np.float64).tiny)[:, None]
        zero_point = np.rint(-lows[:, None] / scale)
        errors = [
            self._of(scale[start : start + BLOCK], zero_point[start : start + BLOCK], levels)
            for start in range(0, len(scale), BLOCK)
        ]
        return np.concatenate(errors)

    def _of(self, scale: np.ndarray, zero_point: np.ndarray, levels: int) -> np.ndarray:
        steps = self.numbers / scale
        np.rint(steps, out=steps)
        np.clip(steps, -zero_point, levels - zero_point, out=steps)
        steps *= scale
        steps -= self.numbers
        np.square(steps, out=steps)
        return steps @ self.counts

    def least(self, low: float, high: float, levels: int, *, together: bool = False) -> tuple[float, float]:
        """The best range inside [low, high] that holds zero; with `together` both bounds shrink alike."""
        lows = COARSE if low and not together else np.ones(1)
        highs = COARSE if high and not together else np.ones(1)
        grid = np.stack([COARSE, COARSE], 1) if together else np.array(list(itertools.product(lows, highs)))
        widest, step = np.array([low, high]), STEP
        shares = self._best(grid, widest, levels)
        for _ in range(ROUNDS):
            for side in [BOTH] if together else [BOTH, LOW, HIGH]:
                tried = np.where(side, np.minimum(shares * (1 + step * FINE), 1), shares)
                shares = self._best(tried, widest, levels)
            step /= 4
        return tuple(shares * widest)

    def _best(self, shares: np.ndarray, widest: np.ndarray, levels: int) -> np.ndarray:
        lows, highs = (shares * widest).T
        return shares[int(self.of(lows, highs, levels).argmin())]
