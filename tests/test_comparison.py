"""Two models side by side: scores, distances, layers and sizes, as tables, JSON and a page."""

from __future__ import annotations

import math
from pathlib import Path
from xml.dom import minidom

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.comparison import ModelComparison, compare
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.onnx_io.write import to_model
from graphopt.report.comparison import as_data, loss_text, speed_text, summary_rows
from graphopt.report.comparison_page import page
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.passes.helpers import Draft, made

RANDOM = np.random.default_rng(2)
W, V = RANDOM.normal(size=(6, 8)), RANDOM.normal(size=(8, 5))
X = RANDOM.normal(size=(40, 6)).astype(np.float32)
LABELS = (np.maximum(X @ W, 0) @ V).argmax(axis=1)
STEP = 0.25
"""Of the quantised model's inner value: coarse, so that it decides some samples otherwise."""


def network(*, step: float = 0.0) -> Graph:
    """Two layers; with a step the value between is rounded to it, from 0 to 255 steps: that stands for the Relu."""

    def build(draft: Draft) -> None:
        hidden = draft.op("MatMul", draft.input(1, 6), draft.const(W))
        if step:
            operands = draft.const(step), draft.const(0, np.uint8)
            draft.graph.rename(hidden, "hidden")
            hidden = draft.op("DequantizeLinear", draft.op("QuantizeLinear", hidden, *operands), *operands)
        else:
            hidden = draft.op("Relu", hidden)
            draft.graph.rename(hidden, "hidden")
        draft.graph.add_output(draft.op("MatMul", hidden, draft.const(V)), "scores")

    return made(build)  # type: ignore[arg-type]


def rounded(x: np.ndarray) -> np.ndarray:
    return np.clip(np.round(x / STEP), 0, 255) * STEP


def decibels(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * math.log10((want**2).sum() / ((want - got) ** 2).sum()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison")
    onnx.save(to_model(network()), path / "float.onnx")
    onnx.save(to_model(network(step=STEP)), path / "steps.onnx")
    graphopt.compile(path / "steps.onnx", out=path / "steps.bundle", name="steps")
    np.savez(path / "data.npz", x=X, labels=LABELS)
    return path


@pytest.fixture(scope="module")
def compared(folder: Path) -> ModelComparison:
    data = folder / "data.npz"
    return compare(folder / "float.onnx", folder / "steps.onnx", f"{data}:x", "labels", seconds=0.01)


def test_scores_and_distance(compared: ModelComparison) -> None:
    hidden = np.maximum(X @ W, 0)
    want, got = hidden @ V, rounded(hidden) @ V
    same = (want.argmax(axis=1) == got.argmax(axis=1)).mean()
    a, b = compared.sides
    assert a.score is not None and b.score is not None and compared.loss is not None
    assert (a.score.value, b.score.value) == (1.0, same)
    assert 0 < compared.loss[0] == pytest.approx(1 - same)
    assert compared.agreement is not None and compared.agreement.value == same
    assert compared.signal is not None
    assert compared.signal.value == pytest.approx(decibels(want, got), abs=0.01)


def test_inner_values_are_those_that_are_read(compared: ModelComparison) -> None:
    """Rounded and saturated: the quantised model has no Relu, but reads what one would give."""
    hidden = np.maximum(X[: compared.layer_samples] @ W, 0)
    inner = {layer.value: layer for layer in compared.layers}
    assert inner["hidden"].sqnr == pytest.approx(decibels(hidden, rounded(hidden)), abs=0.01)
    assert inner["hidden"].worst == pytest.approx(
        np.abs(hidden - rounded(hidden)).max() / hidden.max(), rel=1e-3
    )
    assert inner["hidden"].operator == "Relu"
    last = compared.layers[-1]
    assert last.operator == "MatMul" and last.quantised and not inner["hidden"].quantised


def test_times_and_sizes(compared: ModelComparison, folder: Path) -> None:
    for side, file in zip(compared.sides, ("float.onnx", "steps.onnx"), strict=True):
        assert side.file_bytes == (folder / file).stat().st_size
        assert side.library_bytes and side.seconds
    assert compared.speedup == compared.sides[0].seconds / compared.sides[1].seconds  # type: ignore[operator]
    assert as_data(compared)["sides"][1]["integer_macs"] == 0.0  # its weights are floats


def test_a_bundle_beside_a_model(folder: Path) -> None:
    both = compare(
        folder / "steps.onnx",
        folder / "steps.bundle",
        folder / "data.npz:x",
        seconds=0,
        limit=5,
        layer_samples=2,
    )
    assert both.signal is not None and both.signal.value > 100  # rounding errors of float32 at most
    assert both.loss is None and both.speedup is None and both.samples == 5
    assert both.sides[1].file_bytes is None
    assert [row[0] for row in summary_rows(both)][0] == "SQNR"


def test_open_dimensions_are_fixed(folder: Path) -> None:
    model = to_model(network())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, folder / "open.onnx")
    given = (folder / "open.onnx", folder / "float.onnx", X[:5])
    both = compare(*given, seconds=0, layer_samples=1, input_shapes={"x0": (1, 6)})
    assert both.signal is not None and both.signal.value > 100 and both.layers
    with pytest.raises(UsageError, match="shapes must be fixed.*--input-shape x0="):
        compare(*given, seconds=0)


def test_what_does_not_go_together(folder: Path) -> None:
    other = folder / "other.onnx"

    def build(draft: Draft) -> Value:
        return draft.op("Relu", draft.input(1, 7))

    onnx.save(to_model(made(build)), other)
    with pytest.raises(UsageError, match="take different inputs"):
        compare(folder / "float.onnx", other, X, seconds=0)
    with pytest.raises(UsageError, match="there are 39 labels and more samples"):
        compare(folder / "steps.bundle", folder / "steps.bundle", X, LABELS[:39], seconds=0, layer_samples=0)
    with pytest.raises(UsageError, match="there are 40 labels and 39 samples"):
        compare(folder / "steps.bundle", folder / "steps.bundle", X[:39], LABELS, seconds=0, layer_samples=0)


def test_the_page_is_well_formed(compared: ModelComparison) -> None:
    text = page(compared)
    bars = minidom.parseString(text.removeprefix("<!doctype html>")).getElementsByTagName("svg")
    assert len(bars) == len(compared.layers)
    assert text == page(compared)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ((0.0, 0.0, 0.0), "equal"),
        ((0.0, -0.01, 0.01), "equal (-1.00 % to +1.00 %)"),
        ((0.02, 0.0, 0.05), "worse by 2.00 % (+0.00 % to +5.00 %)"),
        ((-0.02, -0.05, 0.01), "better by 2.00 % (-1.00 % to +5.00 %)"),
        ((0.02, math.nan, math.nan), "worse by 2.00 %"),
    ],
)
def test_a_loss_in_words(loss: tuple[float, float, float], told: str) -> None:
    assert loss_text(loss, "%") == told


def test_a_ratio_in_words() -> None:
    ratios = {0.5: "slower here: 0.50x as fast", 0.998: "as fast", 1.002: "as fast", 2.0: "2.00x as fast"}
    assert {ratio: speed_text(ratio) for ratio in ratios} == ratios


def test_the_command(cli: Cli, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    steps, out = folder / "steps.bundle", tmp_path / "page.html"
    given = ("compare", steps, steps, "--data", f"{folder}/data.npz:x", "--labels", "labels", "--seconds", 0)
    shown = cli(*given, "--layers", 0, "--report", out)
    assert (shown.code, shown.err) == (0, "")
    for text in ("top1", "equal", "SQNR", "same largest", "library"):
        assert text in shown.out
    assert out.read_text().startswith("<!doctype html>")
    data = cli(*given, "--layers", 0, "--json").data
    assert data["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert data["signal"]["value"] is None  # infinite
    assert "no such file" in cli("compare", steps, tmp_path / "nothing", "--data", "x.npz").error
    assert "a metric needs labels" in cli(*given[:5], "--metric", "top5").error
    wrong = cli(*given[:5], "--labels", "label").error
    assert "has no array 'label'" in wrong and "did you mean labels?" in wrong
