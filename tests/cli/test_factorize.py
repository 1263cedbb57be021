"""`graphopt factorize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt import factorization
from graphopt.onnx_io.write import to_model
from tests.cli.conftest import Cli
from tests.passes.helpers import made
from tests.passes.test_factorize_dense import network


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "dense.onnx"
    onnx.save(to_model(made(network)), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npy"
    np.save(path, np.random.default_rng(0).normal(size=(480, 20)).astype(np.float32))
    return path


def test_a_model_of_factors_is_written_and_measured(
    cli: Cli, dense: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.onnx"
    given = ("factorize", dense, "--parameters", "35%", "-d", data, "-o", out, "--even-if-slower")
    done = cli(*given, "--layers", "--multiple", 1)
    assert (done.code, done.err) == (0, "")
    for text in ("Dense layers", "SQNR", "time here", "fitted", str(out)):
        assert text in done.out
    onnx.checker.check_model(out, full_check=True)
    again = tmp_path / "again.onnx"
    assert cli(*given[:-2], again, "--even-if-slower", "--multiple", 1).code == 0
    told = cli(*given, "--multiple", 1, "--json").data
    assert [layer["rank"] for layer in told["layers"]][:2] == [3, 2]
    assert min(told["quality"]["signals"].values()) > 40


def test_slower_pairs_are_left_out_and_told(cli: Cli, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("factorize", dense, "--energy", "99%", "--multiple", 1)
    monkeypatch.setattr(factorization, "_times", lambda *shape: (1e-6, 2e-6 if shape[1] == 20 else 1e-7))
    first, second, _ = cli(*given, "--json").data["layers"]
    assert (first["rank"], second["rank"]) == (None, 2)
    assert first["reason"] == "rank 3 would take 2 us, the layer takes 1 us"
    assert "rank 3 would take" not in cli(*given, "--even-if-slower").out
    told = cli("factorize", dense, "--energy", "99%", "-t", "cortex-m4f", "--json").data
    assert told["notes"] == ["pairs were not timed: cortex-m4f is another machine"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing says how far to go [give one of parameters, energy, error]"),
        (["--energy", "0"], "'0' is no share"),
        (["--parameters", "2%"], "of its dense weights cannot be reached"),
        (["--energy", "90%", "--labels", "y"], "nothing to measure on"),
        (["--energy", "90%", "--exclude", "Gem"], "there is no dense layer 'Gem'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cli: Cli, dense: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    out = tmp_path / "out.onnx"
    failed = cli("factorize", dense, "-o", out, *arguments)
    assert failed.code == 2 and told in failed.error and not out.exists()
