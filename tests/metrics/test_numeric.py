"""MSE, SQNR and CER against closed forms and a plain recursion."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.metrics import Tally, metric_named
from tests.metrics.test_classification import EXACT, value

RANDOM = np.random.default_rng(6)


def test_mean_squared_error_counts_numbers_not_samples() -> None:
    outputs, targets = RANDOM.normal(size=(2, 9, 3, 2))
    assert value("mse", outputs, targets) == pytest.approx(np.mean((outputs - targets) ** 2), rel=EXACT)


def test_noise_of_a_uniform_quantiser() -> None:
    """A full-scale ramp in steps of d has noise d^2 / 12: 6.02 dB a bit, against a signal of 1/3 or so."""
    signal = np.linspace(-1, 1, 1 << 18)
    step = 2 / 256
    rounded = np.round(signal / step) * step
    want = 10 * math.log10((1 / 3) / (step**2 / 12))
    assert value("sqnr", rounded[:, None], signal[:, None], batch=1 << 16) == pytest.approx(want, abs=0.01)


def test_signal_is_measured_over_all_samples() -> None:
    targets, outputs = np.array([[10.0], [1.0]]), np.array([[9.0], [1.0]])
    assert value("sqnr", outputs, targets, batch=1) == pytest.approx(10 * math.log10(101), rel=EXACT)
    assert value("sqnr", targets, targets) == math.inf


def test_a_reference_of_zeros_has_no_ratio() -> None:
    with pytest.raises(UsageError, match="zero throughout"):
        value("sqnr", np.ones((2, 2)), np.zeros((2, 2)))


def test_shapes_must_be_equal() -> None:
    with pytest.raises(UsageError, match=r"targets are \[3\], the output is \[2\]"):
        value("mse", np.zeros((4, 2)), np.zeros((4, 3)))


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def upto(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(upto(i - 1, j) + 1, upto(i, j - 1) + 1, upto(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return upto(len(a), len(b))


def test_edits_over_length() -> None:
    answers = [tuple(RANDOM.integers(0, 3, n)) for n in (0, 1, 4, 6, 9, 5)]
    labels = [tuple(RANDOM.integers(0, 3, n)) for n in (3, 0, 4, 9, 7, 1)]
    want = sum(map(distance, answers, labels)) / sum(map(len, labels))

    def filled(texts: list[tuple[int, ...]]) -> np.ndarray:
        return np.array([text + (-1,) * (9 - len(text)) for text in texts])

    assert value("cer", filled(answers), filled(labels), batch=2) == pytest.approx(want, abs=EXACT)


def test_scores_are_decoded_greedily() -> None:
    steps = [1, 1, 0, 1, 2, 2, 0, 0, 3]  # 0 is the blank: 1 1 2 3
    scores = np.eye(4)[steps][None]
    assert value("cer", scores, np.array([[1, 1, 2, 3]])) == 0.0
    assert value("cer", scores, np.array([[1, 2, 3, -1]])) == pytest.approx(1 / 3)


def test_labels_without_symbols() -> None:
    with pytest.raises(UsageError, match="all labels are empty"):
        value("cer", np.array([[1]]), np.array([[-1]]))
    with pytest.raises(UsageError, match="not a sequence of symbols"):
        value("cer", np.array([[1]]), np.array([1]))


def test_directions_and_units() -> None:
    assert [metric_named(name).higher_is_better for name in ("top1", "mse", "cer", "sqnr", "auc")] == [
        True, False, False, True, True,
    ]  # fmt: skip
    tally = Tally(metric_named("sqnr"))
    tally.add(np.full((3, 1), 0.9), np.ones((3, 1)))
    assert str(tally.score()) == "sqnr 20.0 dB (20.0 dB to 20.0 dB)"
