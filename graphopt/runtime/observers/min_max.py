"""The smallest and the largest number of all: nothing that was seen is clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.runtime.observers.base import Observation, Observer


@dataclass(frozen=True)
class MinMax(Observer):
    """The smallest and the largest number of all samples."""

    name: ClassVar[str] = "min-max"

    def start(self) -> Observation:
        return _Extremes()


class _Extremes(Observation):
    def __init__(self) -> None:
        self._low: np.ndarray | float = np.inf
        self._high: np.ndarray | float = -np.inf

    def add(self, channels: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self._low = np.minimum(self._low, low)
        self._high = np.maximum(self._high, high)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self._low, np.float64), np.asarray(self._high, np.float64)
