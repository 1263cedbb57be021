"""docs/pruning.md, docs/factorization.md and docs/sparsity.md tell the truth: their commands and their Python run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.pruning import IMPORTANCE
from tests.cli.conftest import Cli, cli, network  # noqa: F401

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FACTORS, ZEROS = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("pruning.md", "factorization.md", "sparsity.md")
)
SHOWN, SHOWN_OF_FACTORS, SHOWN_OF_ZEROS = (
    [line[4:] for line in page.split("\n") if line.startswith("    ")] for page in (PAGE, FACTORS, ZEROS)
)
COMMAND = "graphopt "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    onnx.save(network(), "model.onnx")
    images = random.normal(size=(80, 3, 8, 8)).astype(np.float32)
    np.savez("samples.npz", images=images, labels=random.integers(0, 5, 80))
    return tmp_path


def test_its_python_runs_from_top_to_bottom(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec("\n".join(line for line in SHOWN if not line.startswith(COMMAND)), {})
    told = capsys.readouterr().out
    assert "50% of the multiplications are left" in told and "norm + conv: 4 -> 2" in told
    onnx.checker.check_model("model.small.onnx", full_check=True)


def test_its_commands_run(folder: Path, cli: Cli) -> None:  # noqa: F811
    commands = [shlex.split(line)[1:] for line in SHOWN if line.startswith(COMMAND)]
    for command, told in zip(commands, ("SQNR", "Channels that go together", "MACs"), strict=True):
        shown = cli(*command)
        assert (shown.code, shown.err) == (0, "") and told in shown.out
    assert all(Path(name).is_file() for name in ("model.small.onnx", "groups.svg", "model.passed.onnx"))


def test_factors_in_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec("\n".join(line for line in SHOWN_OF_FACTORS if not line.startswith(COMMAND)), {})
    assert "dense: rank " in capsys.readouterr().out and Path("model.small.onnx").is_file()


def test_commands_of_factors(folder: Path, cli: Cli) -> None:  # noqa: F811
    commands = [shlex.split(line)[1:] for line in SHOWN_OF_FACTORS if line.startswith(COMMAND)]
    for command, told in zip(commands, ("SQNR", "MACs"), strict=True):
        shown = cli(*command)
        assert (shown.code, shown.err) == (0, "") and told in shown.out
    assert Path("model.passed.onnx").is_file()


def test_zeros_in_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec("\n".join(line for line in SHOWN_OF_ZEROS if not line.startswith(COMMAND)), {})
    assert "dense: " in capsys.readouterr().out and Path("model.sparse.onnx").is_file()


def test_commands_of_zeros(folder: Path, cli: Cli) -> None:  # noqa: F811
    commands = [shlex.split(line)[1:] for line in SHOWN_OF_ZEROS if line.startswith(COMMAND)]
    for command, told in zip(commands, ("SQNR", "MACs", "SQNR", "SQNR", "cortex-m4f"), strict=True):
        shown = cli(*command)
        assert (shown.code, shown.err) == (0, "") and told in shown.out
    assert Path("model.passed.onnx").is_file() and Path("firmware", "README.md").is_file()


def test_it_lists_every_criterion() -> None:
    table = PAGE.split("## Which channels go")[1].split("\n\n")[1]
    cells = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(IMPORTANCE)
