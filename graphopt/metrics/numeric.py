"""How far numbers are from those wanted: mean squared error, and signal over quantisation noise.

    MSE = sum (y - t)^2 / n        SQNR = 10 log10(sum t^2 / sum (y - t)^2)

Sums are over all samples, so that a sample counts by its energy.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.metrics.base import Metric, finite


@dataclass(frozen=True)
class Squares(Metric):
    """A row is the energy of the target, the energy of the difference, and how many numbers there are."""

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if outputs.shape != targets.shape:
            raise UsageError(
                f"targets are {list(targets.shape[1:])}, the output is {list(outputs.shape[1:])}",
                hint=f"{self.name} compares number by number",
            )
        wanted = finite(targets, "the target").reshape(len(targets), -1)
        off = finite(outputs, "the output").reshape(len(targets), -1) - wanted
        with np.errstate(over="ignore"):
            return np.column_stack(
                [(wanted**2).sum(axis=1), (off**2).sum(axis=1), np.full(len(off), off.shape[1])]
            )

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        return self.of(*map(float, weights @ rows))

    @staticmethod
    @abstractmethod
    def of(signal: float, noise: float, count: float) -> float:
        """The value from the sums."""


@dataclass(frozen=True)
class MeanSquaredError(Squares):
    name = "mse"
    unit = ""
    higher_is_better = False

    @staticmethod
    def of(signal: float, noise: float, count: float) -> float:
        return noise / count if count else math.nan


@dataclass(frozen=True)
class SignalToNoise(Squares):
    """In decibels; infinite where nothing differs."""

    name = "sqnr"
    unit = "dB"

    @staticmethod
    def of(signal: float, noise: float, count: float) -> float:
        if not signal:
            return math.nan
        return 10 * math.log10(signal / noise) if noise else math.inf

    def why_undefined(self, rows: np.ndarray) -> str:
        return "the reference is zero throughout, so SQNR is not defined"
