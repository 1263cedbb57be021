"""`graphopt prune`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 3, 8, 8)).astype(np.float32)
    np.savez(path, x=x, y=random.integers(0, 5, 48))
    return path


def test_a_narrower_model_is_written_and_measured(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = cli("prune", model, "--macs", "60%", "-d", f"{data}:x", "--labels", "y", "-o", out, "--layers")
    assert (done.code, done.err) == (0, "")
    for text in ("norm + conv", "reconstruction", "50.0 %", "time here", "top1", "fitted", str(out)):
        assert text in done.out
    onnx.checker.check_model(out, full_check=True)
    assert onnx.load(out).graph.initializer[0].dims[0] == 2


def test_numbers_for_a_program(cli: Cli, model: Path, data: Path) -> None:
    told = cli("prune", model, "--ratio", "0.5", "--importance", "l1", "--json").data
    assert told["out"] is None and told["quality"] is None and told["importance"] == "l1"
    assert told["widths"] == [{"name": "norm + conv", "before": 4, "after": 2}]
    assert told["after"]["cost"]["macs"] * 2 == told["before"]["cost"]["macs"]
    told = cli("prune", model, "--ratio", "0.5", "-d", f"{data}:x", "--json").data
    assert told["quality"]["samples"] == 48 and len(told["fits"]) == 2


def test_equal_runs_write_equal_bytes(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for out in outs:
        assert cli("prune", model, "--macs", "50%", "-d", f"{data}:x", "-o", out).code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing says how much is to go [give one of ratio, macs, parameters, size]"),
        (["--macs", "50%", "--ratio", "50%"], "two aims at once: ratio, macs"),
        (["--macs", "150%"], "'150%' is no share of a whole [write 50% or 0.5]"),
        (["--macs", "much"], "'much' is no share"),
        (["--ratio", "nan"], "'nan' is no share"),
        (["--macs", "1%"], "cannot be reached: 25% are left at least"),
        (["--macs", "50%", "--importance", "l3"], "there is no importance 'l3'"),
        (
            ["--macs", "50%", "--importance", "activation"],
            "looks at samples, and there are none [give --data",
        ),
        (["--macs", "50%", "--labels", "y"], "nothing to measure on, and there are none"),
        (["--macs", "50%", "--recovery", "refits"], "did you mean refit"),
        (["--macs", "50%", "--exclude", "cov"], "did you mean conv"),
        (["--macs", "50%", "--exclude", "*"], "nothing can be pruned: every group is excluded"),
        (["--macs", "50%", "-d", "DATA:x", "--labels", "z"], "no array 'z'"),
        (["--macs", "50%", "-d", "missing.npz"], "missing.npz"),
        (["--macs", "50%", "--only", "heads"], "no group is 'heads'"),
        (["--macs", "50%", "--only", "head"], "did you mean heads"),
        (["--macs", "50%", "--blocks", "-d", "DATA:x"], "it has no residual block"),
        (["--macs", "50%", "--blocks"], "there are none [give --data, or data]"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cli: Cli, model: Path, data: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    out = tmp_path / "out.onnx"
    given = [argument.replace("DATA", str(data)) for argument in arguments]
    failed = cli("prune", model, "-o", out, *given)
    assert failed.code == 2 and told in failed.error and not out.exists()


def test_a_metric_that_is_no_number_is_refused(
    cli: Cli, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "no_number.py").write_text("def score(run):\n    return float('nan')\n")
    failed = cli("prune", model, "--macs", "50%", "-d", f"{data}:x", "--evaluate", "no_number:score")
    assert failed.code == 2 and "no_number:score" in failed.error
