"""A quantised model beside the float one: figures against numpy, poor results, what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.quality import MOST, Quality, measure_quality
from graphopt.runnable import Runnable
from graphopt.runtime.manifest import Tensor
from graphopt.runtime.reference import run
from graphopt.sensitivity import Task
from tests.passes.helpers import made
from tests.passes.quantization.quantised import samples_of
from tests.passes.quantization.test_placement import residual

RANDOM = np.random.default_rng(4)
W = RANDOM.normal(size=(6, 5))
X = RANDOM.normal(size=(100, 6)).astype(np.float32)
LABELS = (X @ W).argmax(axis=1)


def linear(step: float = 0.0, batch: int = 1) -> Runnable:
    """Scores x W, rounded to a step."""

    def answer(sample):  # type: ignore[no-untyped-def]
        scores = sample["x"] @ W
        return {"y": (np.round(scores / step) * step if step else scores).astype(np.float32)}

    return answering(answer, batch)


def answering(answer, batch: int = 1) -> Runnable:  # type: ignore[no-untyped-def]
    sides = (Tensor("x", DType.float32, (batch, 6)),), (Tensor("y", DType.float32, (batch, 5)),)
    return Runnable(*sides, answer, "numpy")


def decibels(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * math.log10((want**2).sum() / ((want - got) ** 2).sum()))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("fitted", "first"), [(0, 0), (30, 30), (90, 0)])
def test_figures_are_those_of_numpy(fitted: int, first: int, batch: int) -> None:
    """Of the samples behind those that were fitted, where they are enough, and with their own labels."""
    first = first if 100 - fitted * batch >= 32 * batch else 0
    start = first * batch
    want, got = X[start:] @ W, np.round(X[start:] @ W)
    same = (want.argmax(axis=1) == got.argmax(axis=1)).mean()
    quality = measure_quality((linear(batch=batch), linear(1.0, batch)), Task(X, LABELS), fitted)
    assert (quality.samples, quality.held_back) == (100 - start, start > 0)
    assert quality.signals["y"] == pytest.approx(decibels(want, got), abs=1e-3)
    assert quality.agreement == pytest.approx(same) and quality.scores is not None
    assert [score.value for score in quality.scores] == pytest.approx([1.0, same])
    assert quality.loss is not None and quality.loss[0] == pytest.approx(1 - same)
    assert not quality.poor


def test_long_data_are_measured_in_part() -> None:
    data = np.zeros((MOST + 10, 6), np.float32) + X[0]
    assert measure_quality((linear(), linear(0.1)), Task(data), 0).samples == MOST


@pytest.mark.parametrize(
    ("answer", "sqnr", "told"),
    [(np.zeros_like, 0.0, "is zero throughout"), (lambda y: y * np.nan, -math.inf, "is mostly noise")],
)
def test_answers_of_no_use(answer, sqnr: float, told: str) -> None:  # type: ignore[no-untyped-def]
    spoilt = answering(lambda sample: {"y": answer(linear().run(sample)["y"])})
    quality = measure_quality((linear(), spoilt), Task(X), 0)
    assert quality.poor == ["y"] and quality.signals["y"] == pytest.approx(sqnr)
    (warning,) = quality.warnings([])
    assert f"output 'y' {told}" in warning and "--explain" in warning


def test_what_is_not_defined_is_none() -> None:
    silent = answering(lambda sample: {"y": np.zeros((1, 5), np.float32)})
    assert measure_quality((silent, linear()), Task(X), 0).signals == {"y": None}


def test_infinite_answers_of_the_float_model_do_not_count() -> None:
    """A mask of minus infinity, which both models keep."""

    def masked(model: Runnable) -> Runnable:
        return answering(lambda sample: {"y": np.where(np.arange(5) < 2, -np.inf, model.run(sample)["y"])})

    quality = measure_quality((masked(linear()), masked(linear(1.0))), Task(X), 0)
    want = (X @ W)[:, 2:]
    assert quality.signals["y"] == pytest.approx(decibels(want, np.round(want)), abs=1e-3)


def test_a_function_judges_both() -> None:
    def judge(run) -> float:  # type: ignore[no-untyped-def]
        return float(np.abs(run({"x": X[:1]})["y"]).sum())

    quality = measure_quality((linear(), linear(1.0)), Task(X, judge=judge), 0)
    want = X[:1] @ W
    assert quality.scores is not None and quality.loss is not None
    values = [np.abs(y).sum() for y in (want, np.round(want))]
    assert [score.value for score in quality.scores] == pytest.approx(values, rel=1e-5)
    assert quality.loss[0] == pytest.approx(values[0] - values[1], abs=1e-4)


def test_labels_must_match_before_any_work() -> None:
    with pytest.raises(UsageError, match="there are 99 labels and 100 samples"):
        measure_quality((linear(), linear()), Task(X, LABELS[:99]), 0)
    graph = made(residual)
    with pytest.raises(UsageError, match="there are 3 labels"):
        graphopt.quantize(graph, samples_of(graph), labels=np.zeros(3, np.int64))


def measured(
    **options: object,
) -> tuple[graphopt.Graph, list[dict[str, np.ndarray]], Quality, tuple[str, ...]]:
    graph = made(residual)
    data = samples_of(graph)
    result = graphopt.quantize(graph, data, methods="none", **options)  # type: ignore[arg-type]
    assert result.quality is not None
    want, got = (
        np.stack([next(iter(run(g, sample).values())) for sample in data]) for g in (graph, result.graph)
    )
    (found,) = result.quality.signals.values()
    assert found == pytest.approx(decibels(want.astype(float), got.astype(float)), abs=0.5)
    return result.graph, data, result.quality, result.warnings


def test_a_good_result_is_told_without_a_warning() -> None:
    """Sums near a tie may round to the other side: half a dB."""
    *_, quality, warnings = measured(measure=True)
    assert quality.poor == [] and warnings == ()


def test_a_poor_result_names_its_worst_layers() -> None:
    *_, quality, warnings = measured(scheme="weights-int2", measure=True)
    assert len(quality.poor) == 1
    (warning,) = warnings
    assert "is mostly noise" in warning and "dB alone" in warning and "--explain" in warning


def test_labels_are_used_without_a_bound() -> None:
    graph = made(residual)
    data = samples_of(graph)
    labels = np.array([next(iter(run(graph, sample).values())).argmax() for sample in data])
    result = graphopt.quantize(graph, data, labels=labels, methods="none")
    assert result.quality is not None and result.quality.scores is not None
    assert result.quality.scores[0].value == 1.0


def test_what_would_be_ignored_is_refused() -> None:
    graph = made(residual)
    data = samples_of(graph)
    with pytest.raises(UsageError, match="a metric needs labels"):
        graphopt.quantize(graph, data, metric="top5")
    with pytest.raises(UsageError, match="no samples to try layers on"):
        graphopt.quantize(graph, scheme="weights-int8", measure=True)
    for judged in ({}, {"labels": np.zeros(len(data), np.int64)}):
        with pytest.raises(UsageError, match=r"a loss of 5 is more than all there is to lose.*5%"):
            graphopt.quantize(graph, data, max_loss=5, **judged)
