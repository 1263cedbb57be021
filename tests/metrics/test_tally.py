"""Intervals: their width is the binomial's, equal draws give equal ones, and pairs are narrower."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.metrics import Tally, difference, metric_named


def accuracy_of(hits: np.ndarray) -> Tally:
    tally = Tally(metric_named("top1"))
    tally.add(hits.astype(int), np.ones(len(hits), int))
    return tally


def test_the_interval_is_the_binomial_one() -> None:
    """Half of 95 % is 1.96 standard deviations; 1,000 draws place a quantile within a tenth of that."""
    samples, share = 2000, 0.7
    score = accuracy_of(np.arange(samples) < share * samples).score()
    deviation = math.sqrt(share * (1 - share) / samples)
    assert score.value == share
    assert score.low == pytest.approx(share - 1.96 * deviation, abs=0.25 * deviation)
    assert score.high == pytest.approx(share + 1.96 * deviation, abs=0.25 * deviation)
    assert score.samples == samples


def test_equal_samples_give_equal_intervals() -> None:
    hits = np.random.default_rng(0).integers(0, 2, 100)
    assert accuracy_of(hits).score() == accuracy_of(hits).score()


def test_a_difference_is_paired() -> None:
    """Two models that fail on the same half, but for three samples."""
    ours, theirs = np.arange(400) < 200, np.arange(400) < 203
    loss, low, high = difference(accuracy_of(ours), accuracy_of(theirs))
    assert loss == pytest.approx(3 / 400)
    alone = accuracy_of(ours).score()
    assert 0 <= low <= loss <= high < (alone.high - alone.low) / 4
    assert accuracy_of(ours).score().worse_by(accuracy_of(theirs).score()) == pytest.approx(3 / 400)


def test_lower_may_be_better() -> None:
    tally, reference = (Tally(metric_named("mse")) for _ in range(2))
    tally.add(np.full((4, 1), 2.0), np.zeros((4, 1)))
    reference.add(np.ones((4, 1)), np.zeros((4, 1)))
    assert difference(tally, reference)[0] == tally.score().worse_by(reference.score()) == 3.0


def test_draws_without_a_class_do_not_count() -> None:
    tally = Tally(metric_named("auc"))
    tally.add(np.array([[0.9], [0.1], [0.2]]), np.array([1, 0, 0]))
    score = tally.score()
    assert (score.value, score.low, score.high) == (1.0, 1.0, 1.0)


def test_nothing_and_a_mismatch_are_told() -> None:
    tally = Tally(metric_named("top1"))
    with pytest.raises(UsageError, match="there are no samples, so top1 is not defined"):
        tally.score()
    with pytest.raises(UsageError, match="there are 3 outputs and 2 labels"):
        tally.add(np.eye(3), np.arange(2))
    with pytest.raises(UsageError, match="a number alone"):
        tally.add(np.float64(1), np.arange(1))
    other = accuracy_of(np.ones(3))
    with pytest.raises(UsageError, match="same samples"):
        difference(other, accuracy_of(np.ones(4)))


def test_memory_is_a_few_numbers_a_sample() -> None:
    """However large the outputs are."""
    tally = Tally(metric_named("sqnr"))
    for _ in range(50):
        tally.add(np.ones((1, 4096)), np.ones((1, 4096)))
    assert tally.rows.shape == (50, 3)
