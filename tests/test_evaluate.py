"""Scores of models on labelled data: the model in every form, labels in every form, and what does not fit together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.evaluate import evaluate, evaluate_with, tally
from graphopt.ir import DType, Graph
from graphopt.metrics import metric_named
from graphopt.onnx_io.write import to_model
from graphopt.runnable import Runnable, runnable
from graphopt.runtime.manifest import Tensor
from tests.passes.helpers import Draft, made

RANDOM = np.random.default_rng(1)
WEIGHTS = RANDOM.normal(size=(3, 4)).astype(np.float32)
X = RANDOM.normal(size=(30, 3)).astype(np.float32)
LABELS = RANDOM.integers(0, 4, 30)
HITS = float(np.mean((X @ WEIGHTS).argmax(axis=1) == LABELS))
"""No two scores of a sample are so close that rounding decides: see the first test."""


def classifier(batch: int = 1) -> Graph:
    def build(draft: Draft) -> None:
        scores = draft.op("MatMul", draft.input(batch, 3), draft.const(WEIGHTS))
        draft.graph.add_output(draft.op("Relu", scores), "positive")
        draft.graph.add_output(scores, "scores")

    return made(build)  # type: ignore[arg-type]


def of_numpy(batch: int = 1, wrong: Mapping[int, float] = {}) -> Runnable:  # noqa: B006
    """The same without a compiler; `wrong` replaces the first score of samples by number."""
    seen = 0

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal seen
        scores = inputs["x0"] @ WEIGHTS
        for row in range(batch):
            scores[row, 0] = wrong.get(seen + row, scores[row, 0])
        seen += batch
        return {"scores": scores}

    inputs, outputs = (
        (Tensor("x0", DType.float32, (batch, 3)),),
        (Tensor("scores", DType.float32, (batch, 4)),),
    )
    return Runnable(inputs, outputs, run, "numpy")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "model.bundle"
    return graphopt.compile(classifier(), out=out, name="model").path


def test_no_sample_is_near_a_tie() -> None:
    ordered = np.sort(X @ WEIGHTS, axis=1)
    assert (ordered[:, -1] - ordered[:, -2]).min() > 1e-4
    assert 0 < HITS < 1


@pytest.mark.parametrize("form", ["graph", "file", "bundle", "folder", "numpy"])
def test_a_model_in_every_form(form: str, bundle: Path, tmp_path: Path) -> None:
    if form == "file":
        onnx.save(to_model(classifier()), tmp_path / "model.onnx")
    model = {
        "graph": classifier(),
        "file": tmp_path / "model.onnx",
        "bundle": graphopt.Bundle.open(bundle),
        "folder": str(bundle),
        "numpy": of_numpy(),
    }[form]
    score = evaluate(model, X, LABELS, output="scores")  # type: ignore[arg-type]
    assert (score.value, score.samples, score.metric) == (HITS, 30, "top1")
    assert score.low < HITS < score.high


def test_what_cannot_be_compiled_runs_in_numpy() -> None:
    def build(draft: Draft) -> object:
        return draft.op("NonZero", draft.input(3))

    model = runnable(made(build))  # type: ignore[arg-type]
    assert model.machine == "the numpy reference"
    (found,) = model.run({"x0": np.array([0, 1, 1], np.float32)}).values()
    np.testing.assert_array_equal(found, [[1, 2]])


def test_a_batch_is_several_samples() -> None:
    assert evaluate(of_numpy(5), X, LABELS).value == HITS
    counted = tally(of_numpy(4), X, LABELS)  # two rows do not fill the last batch
    assert counted.samples == 28
    assert evaluate(of_numpy(), X, LABELS, limit=7).samples == 7


def test_labels_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, images=X, labels=LABELS)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "told.py").write_text(f"def labels():\n    return {LABELS.tolist()}\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = f"{file}:images"
    for labels in ("labels", f"{file}:labels", tmp_path / "labels.npy", "told:labels", LABELS.tolist()):
        assert evaluate(of_numpy(), data, labels).value == HITS
    with pytest.raises(UsageError, match="has no array 'lables'.*did you mean labels"):
        evaluate(of_numpy(), data, "lables")
    with pytest.raises(UsageError, match="there are no labels 'labels'"):
        evaluate(of_numpy(), X, "labels")


@pytest.mark.parametrize(
    ("count", "said"), [(29, "29 labels and more samples"), (31, "31 labels and 30 samples")]
)
def test_as_many_labels_as_samples(count: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate(of_numpy(), X, np.resize(LABELS, count))


def test_a_bad_label_or_answer_is_told_by_its_sample() -> None:
    labels = LABELS.copy()
    labels[17] = 4
    with pytest.raises(UsageError, match=r"sample 17: its label is 4 \[the model has classes 0 to 3\]"):
        evaluate(of_numpy(), X, labels)
    with pytest.raises(UsageError, match="sample 11: the output holds NaN"):
        evaluate(of_numpy(5, {11: np.nan}), X, LABELS)
    assert evaluate(of_numpy(1, {11: -np.inf}), X, LABELS).samples == 30  # a score may be minus infinity


def test_unknown_output_and_metric() -> None:
    with pytest.raises(UsageError, match="no output 'score'.*did you mean scores"):
        evaluate(of_numpy(), X, LABELS, output="score")
    with pytest.raises(UsageError, match="there is no metric 'top'"):
        evaluate(of_numpy(), X, LABELS, "top")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's own."""
    (tmp_path / "my_task.py").write_text(
        """
import numpy as np
def right(output, label):
    return output.argmax() == label
def broken(*_):
    raise KeyError("cat")
def leaves(*_):
    raise SystemExit(3)
def words(*_):
    return "good"
def score(run):
    return -abs(float(run({"x0": np.ones((1, 3), np.float32)})["scores"].sum()))
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_task"
    sys.modules.pop("my_task", None)


def test_functions_of_the_users_own(task: str) -> None:
    score = evaluate(of_numpy(5), X, LABELS, f"{task}:right")
    assert score.value == pytest.approx(HITS) and score.low < HITS < score.high
    whole = evaluate_with(of_numpy(), f"{task}:score")
    assert whole.value == pytest.approx(-abs(WEIGHTS.sum()), rel=1e-6)
    assert str(whole) == f"{task}:score {whole.value:.4g}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "broken: it raised KeyError: 'cat'"),
        ("leaves", r"leaves: it called sys.exit\(3\)"),
        ("words", "returned good, not a number"),
    ],
)
def test_functions_that_fail(task: str, name: str, said: str) -> None:
    for call in (
        lambda: evaluate(of_numpy(), X, LABELS, f"{task}:{name}"),
        lambda: evaluate_with(of_numpy(), f"{task}:{name}"),
    ):
        with pytest.raises(UsageError, match=said):
            call()


def test_metrics_may_be_given_as_they_are() -> None:
    want = X @ WEIGHTS
    noisy = {n: float(want[n, 0]) + 0.5 for n in range(30)}
    score = evaluate(of_numpy(1, noisy), X, want, metric_named("mse"))
    assert score.value == pytest.approx(0.5**2 / 4, rel=1e-5)
