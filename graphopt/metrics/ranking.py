"""AUC: the chance that a sample of the class has a higher score than one of another class (Hanley and McNeil, 1982).

It is computed from ranks, where equal scores count one half. With more than two classes: the mean over classes, each
against all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.metrics.base import Metric, finite
from graphopt.metrics.classification import labels_of


@dataclass(frozen=True)
class AreaUnderCurve(Metric):
    """The area under the receiver operating characteristic."""

    name = "auc"
    unit = ""

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The scores that count, then the label."""
        scores = finite(outputs, "the output").reshape(len(targets), -1)
        right = labels_of(targets, max(scores.shape[1], 2))
        if scores.shape[1] == 2:
            scores = scores[:, 1:] - scores[:, :1]
        return np.column_stack([scores, right])

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        scores, right = rows[:, :-1], rows[:, -1]
        if scores.shape[1] == 1:
            return _area(scores[:, 0], right == 1, weights)
        areas = [_area(scores[:, label], right == label, weights) for label in range(scores.shape[1])]
        return float(np.mean(areas))

    def why_undefined(self, rows: np.ndarray) -> str:
        classes = max(rows.shape[1] - 1, 2)
        absent = sorted(set(range(classes)) - set(rows[:, -1].astype(int).tolist()))
        return f"no sample has the label {absent[0]}: AUC needs samples of every class"


def _area(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """The share of pairs (of the class, not of it) in the right order; NaN where there are none."""
    levels, place = np.unique(scores, return_inverse=True)
    ours = np.bincount(place, weights * positive, len(levels))
    others = np.bincount(place, weights * ~positive, len(levels))
    pairs = ours.sum() * others.sum()
    below = np.cumsum(others) - others / 2
    return float(ours @ below / pairs) if pairs else float("nan")
