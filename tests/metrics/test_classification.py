"""Accuracy, precision, recall, F1, IoU and AUC against counts made one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.metrics import Tally, metric_named

RANDOM = np.random.default_rng(5)
EXACT = 1e-12
"""Quotients of whole numbers, in two orders."""


def value(metric: str, outputs: np.ndarray, targets: np.ndarray, batch: int = 7) -> float:
    """In batches: the sum must not depend on where they end."""
    tally = Tally(metric_named(metric))
    for start in range(0, len(targets), batch):
        tally.add(outputs[start : start + batch], targets[start : start + batch])
    return tally.score(replicates=2).value


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k_takes_the_first_of_equal_scores(k: int) -> None:
    scores = RANDOM.integers(0, 3, (50, 5)).astype(np.float32)  # many ties
    labels = RANDOM.integers(0, 5, 50)
    hits = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        best = sorted(range(5), key=lambda c: (-row[c], c))[:k]
        hits += label in best
    assert value(f"top{k}", scores, labels) == hits / 50


def test_one_score_and_integers_decide_too() -> None:
    scores = np.array([[0.2], [0.5], [0.7], [0.9]])
    assert value("accuracy", scores, np.array([0, 0, 1, 0])) == 0.75
    assert value("accuracy", np.array([3, 1, 2]), np.array([3, 1, 1])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_counts_by_class(name: str) -> None:
    said, right = RANDOM.integers(0, 4, (2, 60))
    right[right == 3] = 0  # class 3 is answered, never right
    counted = []
    for c in range(4):
        tp = sum(s == r == c for s, r in zip(said, right, strict=True))
        fp, fn = sum(said == c) - tp, sum(right == c) - tp
        above, below = {
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "f1": (2 * tp, 2 * tp + fp + fn),
        }[name]
        counted.append(above / below if below else 0.0)
    assert value(name, said, right) == pytest.approx(np.mean(counted), abs=EXACT)
    for c in range(3):
        assert value(f"{name}:{c}", said, right) == pytest.approx(counted[c], abs=EXACT)


def test_a_class_nobody_mentions_does_not_count() -> None:
    scores = np.eye(10)[[1, 2, 1]]
    assert value("recall", scores, np.array([1, 2, 1])) == 1.0


def test_a_class_without_samples_has_no_recall() -> None:
    with pytest.raises(UsageError, match="no sample has the label 4.*choose another metric"):
        value("recall:4", np.array([1, 4]), np.array([1, 0]))


@pytest.mark.parametrize("columns", [1, 2])
def test_area_is_the_share_of_pairs_in_order(columns: int) -> None:
    scores = RANDOM.integers(0, 6, 40) / 8  # ties, and exact in binary
    labels = RANDOM.integers(0, 2, 40)
    pairs = list(itertools.product(scores[labels == 1], scores[labels == 0]))
    want = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    outputs = scores[:, None] if columns == 1 else np.stack([1 - scores, scores], axis=1)
    assert value("auc", outputs, labels) == pytest.approx(want, abs=EXACT)


def test_area_of_many_classes_is_the_mean_of_each_against_all() -> None:
    scores, labels = RANDOM.normal(size=(30, 3)), RANDOM.integers(0, 3, 30)
    each = []
    for c in range(3):
        pairs = list(itertools.product(scores[labels == c, c], scores[labels != c, c]))
        each.append(sum(a > b for a, b in pairs) / len(pairs))
    assert value("auc", scores, labels) == pytest.approx(np.mean(each), abs=EXACT)


def test_area_needs_every_class() -> None:
    with pytest.raises(UsageError, match="no sample has the label 0"):
        value("auc", np.array([[0.1], [0.2]]), np.array([1, 1]))


def test_intersection_over_union() -> None:
    scores, labels = RANDOM.normal(size=(5, 3, 4, 3)), RANDOM.integers(0, 2, (5, 4, 3))
    said = scores.argmax(axis=1)
    each = [((said == c) & (labels == c)).sum() / ((said == c) | (labels == c)).sum() for c in range(3)]
    assert value("iou", scores, labels, batch=2) == pytest.approx(np.mean(each), abs=EXACT)
    assert value("iou:3", said, labels, batch=2) == pytest.approx(np.mean(each), abs=EXACT)
    assert value("iou:9", said, labels) == pytest.approx(np.mean(each), abs=EXACT)  # six classes never occur


@pytest.mark.parametrize("metric", ["accuracy", "top2", "f1", "auc"])
def test_labels_out_of_range_are_named(metric: str) -> None:
    with pytest.raises(UsageError, match=r"sample 1: its label is 3 \[the model has classes 0 to 2"):
        value(metric, np.eye(3), np.array([0, 3, 2]), batch=1)
    with pytest.raises(UsageError, match="sample 0: its label is -1"):
        value(metric, np.eye(3), np.array([-1, 1, 2]))


@pytest.mark.parametrize("metric", ["accuracy", "top2", "recall", "auc", "iou", "mse", "sqnr", "cer"])
def test_nan_is_refused_with_its_sample(metric: str) -> None:
    outputs = np.zeros((4, 3, 2))
    outputs[2, 1, 0] = math.nan
    labels = {"mse": np.ones((4, 3, 2)), "sqnr": np.ones((4, 3, 2)), "iou": np.zeros((4, 2), int)}
    with pytest.raises(UsageError, match="sample 2: the output holds NaN"):
        value(metric, outputs, labels.get(metric, np.zeros((4, 1) if metric == "cer" else 4, int)))


def test_labels_must_be_classes() -> None:
    with pytest.raises(UsageError, match="not numbers of classes"):
        value("top1", np.eye(2), np.array([0.5, 1]))
    with pytest.raises(UsageError, match="there are 2 labels for one sample"):
        value("top1", np.eye(2), np.eye(2))
    assert value("top1", np.eye(2), np.array([[0.0], [1.0]])) == 1.0


def test_unknown_metrics_are_answered_with_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean accuracy"):
        metric_named("acuracy")
    with pytest.raises(UsageError, match="there is no metric 'top0'"):
        metric_named("top0")
    assert metric_named("Top-5") == metric_named("top5")
    with pytest.raises(UsageError, match="top5 wants 5 classes, the model has 3"):
        value("top5", np.eye(3), np.arange(3))
