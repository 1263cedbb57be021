"""docs/evaluation.md tells the truth: the metrics, their direction, the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli.compare import compare
from graphopt.metrics import METRICS, metric_named
from graphopt.onnx_io.write import to_model
from tests.passes.helpers import made

PAGE = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_metrics_are_those_there_are() -> None:
    rows = re.findall(r"^\| (`.+?) \| (higher|lower) \|", PAGE, re.MULTILINE)
    named = {name: direction for names, direction in rows for name in re.findall(r"`(.+?)`", names)}
    assert set(named) - {"top1", "top5"} == set(METRICS)
    for name, direction in named.items():
        assert metric_named(name).higher_is_better == (direction == "higher")


def test_the_python_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(20, 3)).astype(np.float32), random.integers(0, 3, 20)
    monkeypatch.chdir(tmp_path)
    onnx.save(to_model(made(lambda draft: draft.op("Relu", draft.input(1, 3)))), "model.onnx")
    np.savez("test.npz", images=images, labels=labels)
    Path("my_task.py").write_text("def score(run): return 0.93\n")
    code = "\n".join(re.findall(r"^    (from .*|score = .*|print.*)$", PAGE, re.MULTILINE))
    names: dict[str, object] = {}
    exec(code.replace("model.bundle", "model.onnx"), names)
    hits = np.mean(np.maximum(images, 0).argmax(axis=1) == labels)
    assert capsys.readouterr().out.startswith(f"top1 {100 * hits:.2f} % (")
    assert str(names["score"]) == "my_task:score 0.93"


def test_the_command_has_these_options() -> None:
    (command,) = re.findall(r"^    graphopt compare .*$", PAGE, re.MULTILINE)
    for option in re.findall(r"--(\w+)", command):
        assert option in compare.__annotations__
