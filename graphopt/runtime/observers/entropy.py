"""The threshold that keeps most information: of the distributions that clip at a threshold and are then quantised,
the one with the smallest Kullback-Leibler divergence from the clipped one.

Magnitudes are counted in a histogram. For a threshold at the edge of bin n the reference distribution has the first n
bins, with all that lies beyond in the last; the quantised one puts the same bins together into levels, without what
lies beyond, and spreads each level evenly over the bins that are not empty. There are 2^bits levels where all numbers
have one sign, else half as many on each side. The range is what the threshold leaves of [low, high]. After S. Migacz,
"8-bit inference with TensorRT", GTC 2017, slides 38-40; ONNX Runtime does it too
(onnxruntime/python/tools/quantization/calibrate.py, get_entropy_threshold).

The bin at zero counts as many as its neighbour, as in NVIDIA's pytorch-quantization (calib/histogram.py,
_compute_amax_entropy): zero is exact whatever the threshold, and what a Relu cuts would outweigh all else. Where
numbers are few for so many bins, the noise of their counts speaks for narrow ranges: give many samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observation, Observer
from graphopt.runtime.observers.histogram import Counting

SMOOTHING = 1e-4
"""Counts that an empty bin has, so that the divergence is finite."""

THRESHOLDS = 128
"""Tried at most, evenly spaced."""


@dataclass(frozen=True)
class Entropy(Observer):
    """The range of the smallest Kullback-Leibler divergence at `bits`."""

    name: ClassVar[str] = "entropy"
    bits: int = 8
    bins: int = 2048

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 12:
            raise UsageError(f"{self.bits} bits are none of 2 to 12", where=self.name)
        if self.bins < 1 << (self.bits + 1):
            what = f"{self.bins} bins are too few for {self.bits} bits"
            raise UsageError(what, where=self.name, hint=f"give {1 << (self.bits + 1)} or more")

    def start(self) -> Observation:
        return _Divergence(self)


class _Divergence(Counting):
    def __init__(self, observer: Entropy) -> None:
        super().__init__(observer.bins, with_zero=True)
        self._bits = observer.bits

    def bounds_of(self, channel: int) -> tuple[float, float]:
        histogram = self.histogram
        two_sided = histogram.low[channel] < 0 < histogram.high[channel]
        levels = 1 << (self._bits - two_sided)
        threshold = entropy_threshold(self._magnitudes(channel), levels) * histogram.widths[channel]
        return max(histogram.low[channel], -threshold), min(histogram.high[channel], threshold)

    def _magnitudes(self, channel: int) -> np.ndarray:
        """Counts of the absolute values: zero is the edge of a bin, so both sides fold onto each other."""
        counts, edges = self.histogram.counts[channel], self.histogram.edges(channel)
        zero = int(np.searchsorted(edges, 0))
        negative, positive = counts[:zero][::-1], counts[zero:]
        folded = np.zeros(max(len(negative), len(positive)), np.int64)
        folded[: len(negative)] += negative
        folded[: len(positive)] += positive
        return np.trim_zeros(folded, "b")


def entropy_threshold(counts: np.ndarray, levels: int) -> int:
    """The number of bins, of the magnitudes that `counts` has, up to the threshold."""
    if len(counts) <= levels:
        return len(counts)
    counts = np.concatenate([counts[1:2], counts[1:]])
    stride = -(-(len(counts) - levels) // THRESHOLDS)
    thresholds = [*range(levels, len(counts), stride), len(counts)]
    return min(thresholds, key=lambda bins: (_divergence(counts, bins, levels), bins))


def _divergence(counts: np.ndarray, bins: int, levels: int) -> float:
    """Of the first `bins` in `levels` from the first `bins` and all that lies beyond."""
    kept = counts[:bins].astype(np.float64)
    starts = np.arange(levels) * bins // levels
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)
    mean = np.add.reduceat(kept, starts) / np.maximum(filled, 1)
    spread = np.repeat(mean, np.diff([*starts, bins])) * (kept > 0)
    kept[-1] += counts[bins:].sum()
    p, q = np.maximum(kept, SMOOTHING), np.maximum(spread, SMOOTHING)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
