"""What every metric is: a few numbers for each sample, and a value of weighted samples.

A sample leaves a row of fixed length behind and nothing else, so memory does not depend on the size of outputs. The
value takes a weight for each row: all ones give the metric, the counts of a random draw a bootstrap replicate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from graphopt.errors import UsageError


class Metric(ABC):
    """`name` as the user writes it; `unit` is "%" for shares, "dB", or empty."""

    name: str
    higher_is_better: bool = True
    unit: str = "%"

    @abstractmethod
    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """A row of float64 for each sample; samples lie along the first axis. Raises UsageError."""

    @abstractmethod
    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        """The metric of the samples, each counted `weights` times; NaN where it is not defined."""

    def why_undefined(self, rows: np.ndarray) -> str:
        """Why the value of these samples is NaN."""
        return f"{self.name} is not defined on these samples"


class BadSample(UsageError):
    """A sample that a metric cannot take. `index` counts those that were given together with it."""

    def __init__(self, index: int, what: str, hint: str = "") -> None:
        super().__init__(what, where=f"sample {index}", hint=hint)
        self.index = index


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """As float64. Raises BadSample where a number is NaN or infinite."""
    made = ordered(array, what).astype(np.float64)
    _refuse(np.isinf(made), f"{what} holds infinity")
    return made


def ordered(array: np.ndarray, what: str) -> np.ndarray:
    """Numbers that can be ranked, infinities among them. Raises BadSample for NaN, UsageError for texts."""
    if array.dtype.kind not in "fiubV":  # V: bfloat16 and its like
        raise UsageError(f"{what} is {array.dtype}, not numbers")
    _refuse(np.isnan(array.astype(np.float64)), f"{what} holds NaN")
    return array


def class_numbers(labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Labels as int64, within 0 ... `classes` - 1 if that is known. Raises BadSample, or UsageError for no integers."""
    if labels.dtype.kind not in "iubf" or not np.array_equal(labels, np.floor(labels.astype(np.float64))):
        raise UsageError(f"labels are {labels.dtype}, not numbers of classes", hint="give integers from 0 on")
    made = labels.astype(np.int64)
    bad = (made < 0) if classes is None else (made < 0) | (made >= classes)
    known = "labels start from 0" if classes is None else f"the model has classes 0 to {classes - 1}"
    _refuse(bad, f"its label is {made[bad].reshape(-1)[0] if bad.any() else ''}", known)
    return made


def _refuse(bad: np.ndarray, what: str, hint: str = "") -> None:
    """Raise BadSample for the first sample with an element that is bad."""
    if bad.any():
        raise BadSample(int(bad.reshape(len(bad), -1).any(axis=1).argmax()), what, hint)
