"""`graphopt sparsify`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.conftest import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 3, 8, 8)).astype(np.float32)
    np.savez(path, x=x, y=random.integers(0, 5, 48))
    return path


def test_zeros_are_written_and_measured(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "sparse.onnx"
    done = cli("sparsify", model, "--ratio", "50%", "-d", f"{data}:x", "--labels", "y", "-o", out, "--layers")
    assert (done.code, done.err) == (0, "")
    for text in ("Zeros, unstructured", "50.0 % of 128 weights", "bitmap", "top1", "fitted", str(out)):
        assert text in done.out
    written = onnx.load(out)
    onnx.checker.check_model(written, full_check=True)
    weights = [array for t in written.graph.initializer if (array := numpy_helper.to_array(t)).ndim > 1]
    assert sum(int((w == 0).sum()) for w in weights) == 64


def test_numbers_for_a_program(cli: Cli, model: Path) -> None:
    told = cli("sparsify", model, "--pattern", "2:4", "--json").data
    assert told["out"] is None and told["quality"] is None and told["pattern"] == "2:4"
    assert [(layer["weights"], layer["zeros"]) for layer in told["layers"]] == [(108, 0), (20, 10)]
    assert told["layers"][0]["reason"] == "3 inputs are no multiple of 4"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing says how many weights are to go"),
        (["--ratio", "150%"], "'150%' is no share of a whole [write 50% or 0.5]"),
        (["--ratio", "50%", "--pattern", "2:4"], "2:4 itself says how many go [leave ratio out]"),
        (["--pattern", "4:2"], "write unstructured, 2:4"),
        (["--threshold", "nan"], "nan is no magnitude"),
        (["--ratio", "50%", "--labels", "y"], "nothing to measure on"),
        (["--ratio", "50%", "--exclude", "dens"], "did you mean dense"),
        (["--ratio", "50%", "-d", "missing.npz"], "missing.npz"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cli: Cli, model: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    out = tmp_path / "out.onnx"
    failed = cli("sparsify", model, "-o", out, *arguments)
    assert failed.code == 2 and told in failed.error and not out.exists()
