"""Gathering samples, and a value with its interval.

The interval is the percentile bootstrap's (Efron, 1979): samples are drawn with replacement, as many as there are, and
the middle 95 % of the values of such draws are told. The draws have a fixed seed, so equal samples give equal
intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.metrics.base import BadSample, Metric

REPLICATES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Score:
    """A metric's value on `samples` samples, and the interval it is likely in."""

    metric: str
    value: float
    low: float
    high: float
    samples: int
    higher_is_better: bool
    unit: str = ""

    def worse_by(self, reference: Score) -> float:
        """How much worse it is than `reference`, in the metric's own unit; negative where it is better."""
        loss = reference.value - self.value
        return loss if self.higher_is_better else -loss

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.metric} {self._told(self.value)}"
        return f"{self.metric} {self._told(self.value)} ({self._told(self.low)} to {self._told(self.high)})"

    def _told(self, value: float) -> str:
        match self.unit:
            case "%":
                return f"{100 * value:.2f} %"
            case "dB":
                return f"{value:.1f} dB"
        return f"{value:.4g}"


class Tally:
    """What a metric keeps of each sample that it has seen."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.samples = 0
        self._parts: list[np.ndarray] = []

    @property
    def rows(self) -> np.ndarray:
        """A row for each sample, in order. Raises UsageError where there is none, or their lengths differ."""
        if not self.samples:
            raise UsageError(f"there are no samples, so {self.metric.name} is not defined", hint="give some")
        if len({part.shape[1] for part in self._parts}) > 1:
            raise UsageError(
                f"outputs differ in their number of classes, {self.metric.name} wants one number"
            )
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def add(self, outputs: object, targets: object) -> None:
        """Count samples, which lie along the first axis of both. Raises UsageError where they do not fit."""
        answers, wanted = np.asarray(outputs), np.asarray(targets)
        if not answers.ndim or not wanted.ndim:
            raise UsageError("samples lie along a first axis, a number alone has none", hint="give arrays")
        if len(answers) != len(wanted):
            what = f"there are {len(answers)} outputs and {len(wanted)} labels"
            raise UsageError(what, hint="give a label for each sample")
        if not len(answers):
            return
        try:
            self._parts.append(self.metric.rows(answers, wanted))
        except BadSample as bad:
            raise BadSample(self.samples + bad.index, bad.what, bad.hint) from None
        self.samples += len(answers)

    def score(self, replicates: int = REPLICATES) -> Score:
        """The value, and its interval from so many draws. Raises UsageError where it is not defined."""
        rows = self.rows
        value = _defined(self.metric, rows)
        low, high = _interval([self.metric.value(rows, weights) for weights in _draws(len(rows), replicates)])
        metric = self.metric
        return Score(metric.name, value, low, high, len(rows), metric.higher_is_better, metric.unit)


def difference(ours: Tally, reference: Tally, replicates: int = REPLICATES) -> tuple[float, float, float]:
    """How much worse `ours` is than `reference` on the same samples, and the interval of that.

    Both are drawn together: what is hard for both does not widen the interval. Raises UsageError for other metrics,
    or other numbers of samples.
    """
    if ours.metric != reference.metric or ours.samples != reference.samples:
        raise UsageError("only scores of one metric on the same samples have a difference")
    metric, (a, b) = ours.metric, (ours.rows, reference.rows)
    sign = 1 if metric.higher_is_better else -1

    def worse(weights: np.ndarray) -> float:
        with np.errstate(invalid="ignore"):  # the difference of two infinite SQNRs
            return sign * (metric.value(b, weights) - metric.value(a, weights))

    return (worse(np.ones(len(a))), *_interval(list(map(worse, _draws(len(a), replicates)))))


def _defined(metric: Metric, rows: np.ndarray) -> float:
    value = metric.value(rows, np.ones(len(rows)))
    if math.isnan(value):
        hint = "give samples that decide it, or choose another metric"
        raise UsageError(metric.why_undefined(rows), hint=hint)
    return value


def _draws(samples: int, replicates: int) -> Iterator[np.ndarray]:
    """How often each sample is drawn, in so many draws."""
    random = np.random.default_rng(0)
    for _ in range(replicates):
        yield np.bincount(random.integers(samples, size=samples), minlength=samples).astype(np.float64)


def _interval(values: list[float]) -> tuple[float, float]:
    """Draws in which the value is not defined, a class being absent, do not count."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not known.size:
        return math.nan, math.nan
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [outside, 1 - outside], method="nearest")
    return float(low), float(high)
