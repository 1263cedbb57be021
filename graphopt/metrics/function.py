"""Functions of the user's own as metrics: of one sample's output and its label, or of the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.data.functions import blamed
from graphopt.errors import UsageError
from graphopt.metrics.base import Metric
from graphopt.metrics.tally import Score


@dataclass(frozen=True)
class FunctionMetric(Metric):
    """The mean over samples of a function of output and label; higher is better."""

    name: str
    function: Callable[[np.ndarray, np.ndarray], Any]
    unit = ""

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        with blamed(self.name):
            found = [self.function(*pair) for pair in zip(outputs, targets, strict=True)]
        return np.array([[_number(self.name, value)] for value in found])

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        return float(weights @ rows[:, 0] / weights.sum())


def function_score(name: str, returned: object) -> Score:
    """The score of what a function returned: higher is better, and there is no interval. Raises UsageError."""
    return Score(name, _number(name, returned), math.nan, math.nan, 0, True)


def _number(name: str, returned: object) -> float:
    try:
        value = float(returned)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        what = f"it returned {str(returned)[:40]}, not a number"
        raise UsageError(what, where=name, hint="return a float, higher is better")
    return value
