"""docs/recovery.md tells the truth: its command and its Python run."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.conftest import Cli, cli, network  # noqa: F401

pytest.importorskip("jax", reason="JAX is not here: pip install graphopt[recover]")

PAGE = (Path(__file__).parent.parent.parent / "docs" / "recovery.md").read_text(encoding="utf-8")
SHOWN = [line[4:] for line in PAGE.split("\n") if line.startswith("    ")]


def test_its_command_and_its_python_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    onnx.save(network(), "model.onnx")
    onnx.save(network(), "small.onnx")
    images = random.normal(size=(60, 3, 8, 8)).astype(np.float32)
    np.savez("samples.npz", images=images, labels=random.integers(0, 5, 60))
    [command] = [line for line in SHOWN if line.startswith("graphopt ")]
    assert cli(*shlex.split(command)[1:]).code == 0
    Path("recovered.onnx").unlink()
    exec("\n".join(line for line in SHOWN if not line.startswith("graphopt ")), {})
    assert "all epochs are done" in capsys.readouterr().out and Path("recovered.onnx").is_file()
