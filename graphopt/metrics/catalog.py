"""Metrics by the names that users write: `top5`, `f1`, `f1:1` for one class."""

from __future__ import annotations

import re
from collections.abc import Callable

from graphopt.errors import UsageError, did_you_mean
from graphopt.metrics.base import Metric
from graphopt.metrics.classification import F1, Accuracy, Precision, Recall
from graphopt.metrics.numeric import MeanSquaredError, SignalToNoise
from graphopt.metrics.ranking import AreaUnderCurve
from graphopt.metrics.segmentation import IntersectionOverUnion
from graphopt.metrics.sequences import CharacterErrorRate

METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "auc": AreaUnderCurve,
    "cer": CharacterErrorRate,
    "f1": F1,
    "iou": IntersectionOverUnion,
    "mse": MeanSquaredError,
    "precision": Precision,
    "recall": Recall,
    "sqnr": SignalToNoise,
}
"""By name; `topK` beside them."""

OF_A_CLASS: dict[str, Callable[[int], Metric]] = {"f1": F1, "precision": Precision, "recall": Recall}
WITH_CLASSES: dict[str, Callable[[int], Metric]] = {**OF_A_CLASS, "iou": IntersectionOverUnion}
"""What takes a number: a class of interest, or how many classes there are."""


def metric_named(text: str) -> Metric:
    """The metric that `text` names. Raises UsageError."""
    name, colon, number = text.strip().lower().partition(":")
    top = re.fullmatch(r"top-?([1-9]\d*)", name)
    if top and not colon:
        return Accuracy(int(top[1]))
    if name in METRICS and not colon:
        return METRICS[name]()
    if name in WITH_CLASSES and number.isdecimal():
        return WITH_CLASSES[name](int(number))
    listed = f"there are {', '.join(METRICS)}, top1, top5"
    raise UsageError(f"there is no metric '{text}'", hint=did_you_mean(name, METRICS, listed))
