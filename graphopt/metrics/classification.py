"""Metrics of classes: accuracy, top-k, precision, recall, F1.

Outputs are a score for each class (the largest decides, the first of equal ones), one score for the second of two
classes (above one half), or integers that are classes already.

    precision = TP / (TP + FP)     recall = TP / (TP + FN)     F1 = 2 TP / (2 TP + FP + FN)

Without a class of interest these are means over all classes that occur in labels or answers, each counted once; what
has no samples to divide by counts as 0 there.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.metrics.base import Metric, class_numbers, ordered

HALF = 0.5


def scores_of(outputs: np.ndarray, samples: int) -> np.ndarray:
    """A row of scores for each sample."""
    return ordered(outputs, "the output").reshape(samples, -1)


def labels_of(targets: np.ndarray, classes: int | None) -> np.ndarray:
    """One class for each sample. Raises UsageError."""
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] != 1:
        raise UsageError(
            f"there are {flat.shape[1]} labels for one sample, of shape {list(targets.shape[1:])}",
            hint="this metric wants the number of a class for each sample",
        )
    return class_numbers(flat[:, 0], classes)


def predicted(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class that each output says, and the right one."""
    scores = scores_of(outputs, len(targets))
    if scores.shape[1] > 1:
        return scores.argmax(axis=1), labels_of(targets, scores.shape[1])
    if outputs.dtype.kind in "iub":
        return scores[:, 0].astype(np.int64), labels_of(targets, None)
    return (scores[:, 0] > HALF).astype(np.int64), labels_of(targets, 2)


@dataclass(frozen=True)
class Accuracy(Metric):
    """The share of samples whose class is among the `k` with the highest scores."""

    k: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"top{self.k}"

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if self.k == 1:
            said, right = predicted(outputs, targets)
            return (said == right).astype(np.float64)[:, None]
        scores = scores_of(outputs, len(targets))
        if scores.shape[1] < self.k:
            raise UsageError(f"{self.name} wants {self.k} classes, the model has {scores.shape[1]}")
        right = labels_of(targets, scores.shape[1])
        own = np.take_along_axis(scores, right[:, None], axis=1)
        earlier = np.arange(scores.shape[1]) < right[:, None]
        ahead = (scores > own) | ((scores == own) & earlier)
        return (ahead.sum(axis=1) < self.k).astype(np.float64)[:, None]

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        return float(weights @ rows[:, 0] / weights.sum())


@dataclass(frozen=True)
class ByClass(Metric):
    """A quotient of counts for each class: of `positive` alone, or the mean over classes."""

    positive: int | None = None

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.stack(predicted(outputs, targets), axis=1).astype(np.float64)

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        said, right = rows.astype(np.int64).T
        count = int(max(said.max(), right.max(), self.positive or 0)) + 1
        hits = np.bincount(right, weights * (said == right), count)
        answers, labels = np.bincount(said, weights, count), np.bincount(right, weights, count)
        above, below = self.quotient(hits, answers, labels)
        each = np.divide(above, below, out=np.zeros(count), where=below > 0)
        if self.positive is None:
            return float(each[answers + labels > 0].mean())
        return float(each[self.positive]) if labels[self.positive] else float("nan")

    def why_undefined(self, rows: np.ndarray) -> str:
        return f"no sample has the label {self.positive}, so {self.name} is not defined"

    @staticmethod
    @abstractmethod
    def quotient(hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numerator and denominator by class, from right answers, answers and labels of that class."""


@dataclass(frozen=True)
class Precision(ByClass):
    """How many of a class's answers are right."""

    name = "precision"

    @staticmethod
    def quotient(hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return hits, answers


@dataclass(frozen=True)
class Recall(ByClass):
    """How many of a class's samples are found."""

    name = "recall"

    @staticmethod
    def quotient(hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return hits, labels


@dataclass(frozen=True)
class F1(ByClass):
    """The harmonic mean of precision and recall."""

    name = "f1"

    @staticmethod
    def quotient(hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 2 * hits, answers + labels
