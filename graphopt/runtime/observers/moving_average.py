"""Extremes of each sample, averaged: low += constant * (low of the sample - low), and high alike.

A single outlier moves the range by little, and samples that come late weigh more. The first sample is where the
average begins. As in quantisation-aware training (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference", 2018, arXiv:1806.08342, section 3.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observation, Observer


@dataclass(frozen=True)
class MovingAverage(Observer):
    """The moving average of the extremes of each sample; `constant` is the share of the newest."""

    name: ClassVar[str] = "moving-average"
    constant: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.constant <= 1:
            raise UsageError(f"constant is {self.constant:g}, not above 0 and at most 1", where=self.name)

    def start(self) -> Observation:
        return _Average(self.constant)


class _Average(Observation):
    def __init__(self, constant: float) -> None:
        self._constant = constant
        self._bounds: np.ndarray | None = None

    def add(self, channels: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        bounds = np.stack([low, high]).astype(np.float64)
        before = bounds if self._bounds is None else self._bounds
        self._bounds = before + self._constant * (bounds - before)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        assert self._bounds is not None
        return self._bounds[0], self._bounds[1]
