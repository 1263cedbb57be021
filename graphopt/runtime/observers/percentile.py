"""The range that holds a share of all numbers: what lies outside, half on each side, is clipped.

Quantiles are taken from a histogram of the stream, at the outer edge of their bin: no more is clipped than was asked
for, and a bound is off by less than 2 (high - low) / (bins - 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observation, Observer
from graphopt.runtime.observers.histogram import Counting


@dataclass(frozen=True)
class Percentile(Observer):
    """The range that holds `percent` of all numbers; as much is cut off on either side."""

    name: ClassVar[str] = "percentile"
    percent: float = 99.99
    bins: int = 2048

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise UsageError(f"percent is {self.percent:g}, not above 50 and at most 100", where=self.name)
        if self.bins < 8:
            raise UsageError(f"{self.bins} bins are too few", where=self.name, hint="give 8 or more")

    def start(self) -> Observation:
        return _Quantiles(self)


class _Quantiles(Counting):
    def __init__(self, observer: Percentile) -> None:
        super().__init__(observer.bins)
        self._cut = (100 - observer.percent) / 200

    def bounds_of(self, channel: int) -> tuple[float, float]:
        edges, below = self.histogram.edges(channel), self.histogram.counts[channel].cumsum()
        total = int(below[-1])
        cut = int(self._cut * total)
        low = edges[np.searchsorted(below, cut, side="right")]
        high = edges[np.searchsorted(below, total - cut, side="left") + 1]
        return max(low, self.histogram.low[channel]), min(high, self.histogram.high[channel])
