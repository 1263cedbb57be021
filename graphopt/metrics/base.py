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


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """As float64. Raises UsageError, naming the sample, where a number is NaN or infinite."""
    made = np.asarray(array, np.float64)
    bad = ~np.isfinite(made).reshape(len(made), -1).all(axis=1)
    if bad.any():
        kind = "NaN" if np.isnan(made).any() else "infinity"
        raise UsageError(f"{what} holds {kind} for sample {int(bad.argmax())} of {len(made)}")
    return made


def ordered(array: np.ndarray, what: str) -> np.ndarray:
    """Numbers that can be ranked, infinities among them. Raises UsageError, naming the sample, for NaN."""
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{what} is {array.dtype}, not numbers")
    bad = np.isnan(array.astype(np.float64)).reshape(len(array), -1).any(axis=1)
    if bad.any():
        raise UsageError(f"{what} holds NaN for sample {int(bad.argmax())} of {len(array)}")
    return array


def class_numbers(labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Labels as int64, within 0 ... `classes` - 1 if that is known. Raises UsageError, naming the sample."""
    if labels.dtype.kind not in "iubf" or not np.array_equal(labels, np.floor(labels.astype(np.float64))):
        raise UsageError(f"labels are {labels.dtype}, not numbers of classes", hint="give integers from 0 on")
    made = labels.astype(np.int64)
    bad = (made < 0) if classes is None else (made < 0) | (made >= classes)
    if bad.any():
        index = int(bad.reshape(len(made), -1).any(axis=1).argmax())
        found = made[index][bad[index]].reshape(-1)[0]
        known = "labels start from 0" if classes is None else f"the model has classes 0 to {classes - 1}"
        raise UsageError(f"label {found} of sample {index} is out of range", hint=known)
    return made
