"""docs/quantization.md tells the truth: its Python runs, its schemes are all there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.passes.quantization.scheme import SCHEMES, parse_scheme
from tests.cli.conftest import Cli, cli, network  # noqa: F401

PAGE = (Path(__file__).parent.parent / "docs" / "quantization.md").read_text(encoding="utf-8")
SHOWN = [line[4:] for line in PAGE.split("\n") if line.startswith("    ")]
COMMAND = "graphopt "


def test_its_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    onnx.save(network(), "model.onnx")
    images, labels = random.normal(size=(40, 3, 8, 8)).astype(np.float32), random.integers(0, 5, 40)
    np.savez("samples.npz", images=images, labels=labels)
    exec("\n".join(line for line in SHOWN if not line.startswith(COMMAND)), {})
    told = capsys.readouterr().out
    assert "100.0% of the multiplications" in told
    assert "conv: " in told and "dense: " in told and "'dense': '" in told
    assert Path("model.int8.onnx").is_file() and Path("model.bundle").is_dir()


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_task.py").write_text("def score(run):\n    return 0.93\n")
    onnx.save(network(), "model.onnx")
    images = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    np.savez("samples.npz", images=images, labels=np.arange(40) % 5)
    commands = [shlex.split(line)[1:] for line in SHOWN if line.startswith(COMMAND)]
    for command, told in zip(commands, ("top1", "my_task:score", "SQNR"), strict=True):
        shown = cli(*command)
        assert (shown.code, shown.err) == (0, "") and told in shown.out and "SQNR" in shown.out


def test_it_lists_every_scheme() -> None:
    table = PAGE.split("## Schemes")[1].split("\n\n")[1]
    named: list[str] = []
    for cell in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE):
        first, *more = re.findall(r"`(.+?)`", cell)
        named += [first, *(f"weights{name}" for name in more)]
    assert sorted(named) == sorted(SCHEMES)
    for spec in re.findall(r"`([\w-]+\{.+?\})`", PAGE):
        assert str(parse_scheme(spec)) == spec or parse_scheme(spec).group
