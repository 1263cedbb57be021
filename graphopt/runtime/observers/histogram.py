"""A histogram of a stream: its range grows with the data, its size does not.

The bins of a channel are [i w, (i + 1) w) for consecutive integers i, where the width w is a power of two. When a
sample does not fit any more, the width doubles as often as it takes, and bins that become one are added: no number is
counted in a bin where it does not lie, whatever the order of the samples. Zero always is the edge of a bin.

The width is the smallest that fits, so that w < 2 (high - low) / (bins - 2): any quantile is known to within that.
"""

from __future__ import annotations

import numpy as np

from graphopt.runtime.observers.base import Observation

NARROWEST = -100
"""Exponent of the smallest width: float32 holds its reciprocal."""

PRECISION = 52
"""Bits of an index that float64 holds."""

BLOCK = 1 << 16
"""Elements that are counted at once; they stay in the cache."""


class Histogram:
    """Counts of each channel; `with_zero` makes room for zero, whether or not it is in the data."""

    def __init__(self, bins: int, *, with_zero: bool = False) -> None:
        self.bins = bins
        self._with_zero = with_zero
        self._exponents = np.empty(0, np.int64)
        self._first = np.empty(0, np.int64)
        self.low = np.empty(0)
        self.high = np.empty(0)
        self.counts = np.empty((0, bins), np.int64)

    @property
    def widths(self) -> np.ndarray:
        """Of the bins of each channel."""
        return np.ldexp(1.0, self._exponents)

    def edges(self, channel: int) -> np.ndarray:
        """The bins + 1 edges of a channel's bins."""
        return (self._first[channel] + np.arange(self.bins + 1)) * self.widths[channel]

    def add(self, channels: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Count one sample: (channels, elements of each), with the extremes of each channel."""
        low, high = low.astype(np.float64), high.astype(np.float64)
        if not len(self.counts):
            self.low, self.high = low, high
            self.counts = np.zeros((len(low), self.bins), np.int64)
            self._exponents = np.full(len(low), NARROWEST)
            self._first = np.zeros(len(low), np.int64)
            self._grow()
        elif (low < self.low).any() or (high > self.high).any():
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self._grow()
        self._count(channels)

    def _grow(self) -> None:
        """Make room for the range from `low` to `high`; what is counted moves to the bins that hold it."""
        low, high = (
            (np.minimum(self.low, 0), np.maximum(self.high, 0)) if self._with_zero else (self.low, self.high)
        )
        exponents = _exponents(low, high, self.bins, self._exponents)
        first = _index(low, exponents)
        doublings = exponents - self._exponents
        for channel in np.flatnonzero((doublings > 0) | (first != self._first)):
            old = np.flatnonzero(self.counts[channel])
            new = ((self._first[channel] + old) >> doublings[channel]) - first[channel]
            counts = np.zeros(self.bins, np.int64)
            np.add.at(counts, new, self.counts[channel, old])
            self.counts[channel] = counts
        self._exponents, self._first = exponents, first

    def _count(self, channels: np.ndarray) -> None:
        """Scaling by a power of two and the difference of two integers nearby are exact in floats."""
        scales = np.ldexp(1.0, -self._exponents).astype(channels.dtype)[:, None]
        first = self._first.astype(channels.dtype)[:, None]
        rows = np.arange(len(channels))[:, None] * self.bins
        step = max(BLOCK // len(channels), 1)
        flat = self.counts.reshape(-1)
        for start in range(0, channels.shape[1], step):
            places = channels[:, start : start + step] * scales
            np.floor(places, out=places)
            places -= first
            indices = places.astype(np.intp)
            indices += rows
            if indices.size < flat.size:  # one by one, rather than pass over all bins
                np.add.at(flat, indices.reshape(-1), 1)
            else:
                flat += np.bincount(indices.reshape(-1), minlength=flat.size)


def _index(numbers: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    return np.floor(np.ldexp(numbers, -exponents)).astype(np.int64)


def _exponents(low: np.ndarray, high: np.ndarray, bins: int, least: np.ndarray) -> np.ndarray:
    """Of the smallest widths, from those of `least` on, with which `low` to `high` take at most `bins` bins."""
    tiny = np.ldexp(1.0, NARROWEST)
    narrow = np.floor(np.log2(np.maximum(high - low, tiny) / bins)).astype(np.int64)
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), tiny)
    exact = np.ceil(np.log2(largest)).astype(np.int64) - PRECISION
    exponents = np.maximum(np.maximum(least, exact), np.maximum(narrow, NARROWEST))
    while (too_narrow := _index(high, exponents) - _index(low, exponents) >= bins).any():
        exponents = exponents + too_narrow
    return exponents


class Counting(Observation):
    """An observation that is a histogram; `bounds_of` finds the range of one channel in it."""

    def __init__(self, bins: int, *, with_zero: bool = False) -> None:
        self.histogram = Histogram(bins, with_zero=with_zero)

    def add(self, channels: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.histogram.add(channels, low, high)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.array([self.bounds_of(channel) for channel in range(len(self.histogram.counts))])
        return pairs[:, 0], pairs[:, 1]

    def bounds_of(self, channel: int) -> tuple[float, float]:
        raise NotImplementedError
