"""IoU: intersection over union of the pixels of a class in the answer and in the labels, the mean over classes.

Outputs are scores [samples, classes, height, width], or integers [samples, height, width]; labels are integers
[samples, height, width]. Pixels of all samples count together. A class in neither answers nor labels does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.metrics.base import Metric, class_numbers, ordered


@dataclass(frozen=True)
class IntersectionOverUnion(Metric):
    """Outputs that are integers have `classes` classes."""

    classes: int = 2
    name = "iou"

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The pixels of each class's intersection, then of its union."""
        said, classes = self._answers(outputs, targets.ndim)
        right = class_numbers(targets, classes)
        if said.shape != right.shape:
            raise UsageError(
                f"labels are {list(targets.shape[1:])}, the model answers with {list(said.shape[1:])}",
                hint="give the number of a class for each pixel",
            )
        rows = []
        for answer, label in zip(said.reshape(len(said), -1), right.reshape(len(said), -1), strict=True):
            both = np.bincount(label[answer == label], minlength=classes)
            sizes = np.bincount(answer, minlength=classes) + np.bincount(label, minlength=classes)
            rows.append(np.concatenate([both, sizes - both]))
        return np.array(rows, np.float64)

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        both, either = (weights @ rows).reshape(2, -1)
        occurs = either > 0
        return float((both[occurs] / either[occurs]).mean()) if occurs.any() else float("nan")

    def why_undefined(self, rows: np.ndarray) -> str:
        return "there are no pixels, so IoU is not defined"

    def _answers(self, outputs: np.ndarray, label_axes: int) -> tuple[np.ndarray, int]:
        """The class of each pixel, and how many classes there are."""
        scores = ordered(outputs, "the output")
        if scores.ndim == label_axes + 1:
            return scores.argmax(axis=1), scores.shape[1]
        if scores.dtype.kind in "iub":
            return class_numbers(scores, self.classes), self.classes
        raise UsageError(
            f"the output is {list(outputs.shape[1:])}, not a score for each class and pixel",
            hint="IoU wants [classes, height, width], or integers",
        )
