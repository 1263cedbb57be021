"""`graphopt quantize`."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.cli.quantize_options import QuantizeOptions
from graphopt.runtime.module import Module
from tests.cli.conftest import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    return path


def test_writes_a_model_of_standard_operators(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = cli("quantize", model, "--calibration", data, "-o", out, "--layers")
    assert (done.code, done.err) == (0, "")
    for text in ("2 int8", "100.0%", str(out), "dense", "fitted"):
        assert text in done.out
    assert "there is no method 'rund'" in cli("quantize", model, "-c", data, "--methods", "rund").error
    onnx.checker.check_model(out, full_check=True)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(out).graph.node}


def test_numbers_and_ranges_for_a_program(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    told = cli("quantize", model, "-c", data, "--ranges", ranges, "--exclude", "dense", "--json").data
    assert told["out"] is None and 0 < told["share_of_macs"] < 1
    assert [layer["scheme"] for layer in told["layers"]] == ["int8", None]
    written = tmp_path / "again.onnx"
    pipeline = f"quantize{{ranges={ranges} exclude=dense}}"
    done = cli("optimize", model, "-o", written, "--pipeline", f"fold-batchnorm,{pipeline}")
    assert "ranges are of another model" in done.error


def test_it_tells_how_good_the_result_is(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.npy"
    np.save(labels, np.arange(16) % 5)
    shown = cli("quantize", model, "-c", data, "--labels", labels).out
    for text in (
        "16 samples of calibration",
        "graphopt compare",
        "SQNR",
        "same largest",
        "top1",
        "float",
        "constants",
    ):
        assert text in shown
    quality = cli("quantize", model, "-c", data, "--json").data["quality"]
    assert quality["samples"] == 16 and quality["signals"]["y"] > 20 and quality["scores"] is None
    assert "not measured" in cli("quantize", model, "--scheme", "weights-int8").out


def test_ranges_are_written_edited_and_read(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    ranges, first, again, edited = (tmp_path / name for name in ("r.json", "1.onnx", "2.onnx", "3.onnx"))
    assert cli("quantize", model, "-c", data, "--ranges", ranges, "-o", first).code == 0
    assert cli("quantize", model, "-c", data, "--use-ranges", ranges, "-o", again).code == 0
    assert first.read_bytes() == again.read_bytes()
    known = json.loads(ranges.read_text())
    known["values"]["x"] = {"low": -100, "high": 100}
    ranges.write_text(json.dumps(known))
    assert cli("quantize", model, "--use-ranges", ranges, "-o", edited).code == 0
    wide = [numpy_helper.to_array(tensor) for tensor in onnx.load(edited).graph.initializer]
    assert any(array.size == 1 and np.isclose(array, 200 / 255) for array in wide)
    known["values"]["x"] = {"low": 100, "high": -100}
    ranges.write_text(json.dumps(known))
    edited.unlink()
    failed = cli("quantize", model, "--use-ranges", ranges, "-o", edited)
    assert "r.json, value 'x': 'low' is above 'high'" in failed.error and not edited.exists()


def test_constant_inputs_are_refused_unless_allowed(
    cli: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    images = np.load(data)["x"]
    images[:, 2] = 0.25
    np.savez(data, x=images)
    out = tmp_path / "out.onnx"
    failed = cli("quantize", model, "-c", data, "-o", out)
    assert "channel 2 of 'x' is 0.25 in all samples" in failed.error and not out.exists()
    assert cli("quantize", model, "-c", data, "-o", out, "--allow-constant").code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            [],
            "needs data to find ranges of activations [give samples of what the model will see (--calibration",
        ),
        (["-c", "missing.npz"], "missing.npz"),
        (["-c", "DATA", "--scheme", "int9"], "did you mean"),
        (["-c", "DATA", "--exclude", "dens"], "did you mean dense"),
        (["-c", "DATA", "--observer", "mean"], "mean"),
        (["-c", "DATA", "--exclude", "xyzzy"], "[layers: conv, dense]"),
        (["-c", "DATA", "--exclude", "*"], "every layer is excluded"),
        (["-c", "DATA", "--max-loss", "1%", "--evaluate", "nothing_here:score"], "no module 'nothing_here'"),
        (["-c", "DATA", "--max-loss", "1%", "--labels", "y"], "no array 'y'"),
        (["-c", "DATA", "--max-loss", "5"], "write 5%"),
        (["-c", "DATA", "--metric", "top5"], "a metric needs labels, and there are none [give --labels"),
        (["-c", "DATA", "--max-loss", "1%", "--labels", "x", "--metric", "top"], "top"),
        (["--scheme", "weights-int8", "--explain"], "no samples to try layers on [give --calibration"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cli: Cli, model: Path, data: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    out = tmp_path / "out.onnx"
    given = [str(data) if argument == "DATA" else argument for argument in arguments]
    failed = cli("quantize", model, "-o", out, *given)
    assert failed.code == 2 and told in failed.error
    assert not out.exists()


def test_samples_that_are_no_numbers_are_refused(cli: Cli, model: Path, tmp_path: Path) -> None:
    x = np.zeros((4, 3, 8, 8), np.float32)
    x[2, 0, 0, 0] = np.nan
    np.savez(tmp_path / "bad.npz", x=x)
    failed = cli("quantize", model, "-c", tmp_path / "bad.npz", "-o", tmp_path / "out.onnx")
    assert failed.code == 2 and "'x'" in failed.error and "NaN" in failed.error
    assert not (tmp_path / "out.onnx").exists()


def test_compiled_in_one_step(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    """The bundle answers as that of the file does that `quantize` writes."""
    bundle, out = tmp_path / "net.bundle", tmp_path / "net.int8.onnx"
    done = cli("compile", model, "--quantize", "int8", "-c", data, "-o", bundle, "--json")
    assert done.code == 0 and done.data["path"] == str(bundle)
    assert cli("quantize", model, "-c", data, "-o", out).code == 0
    again = tmp_path / "again.bundle"
    assert cli("compile", out, "-o", again).code == 0
    x = {"x": np.load(data)["x"][:1]}
    np.testing.assert_array_equal(Module(bundle)(x)["y"], Module(again)(x)["y"])
    differs = cli("verify", model, bundle)
    assert differs.code == 6 and "graphopt compare" in differs.err
    agrees = cli("verify", out, again)
    assert agrees.code == 0 and "graphopt compare" not in agrees.err


def test_one_step_takes_ranges_too(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    images = np.load(data)["x"]
    images[:, 2] = 0.25
    np.savez(data, x=images)
    ranges, bundles = tmp_path / "r.json", [tmp_path / "a.bundle", tmp_path / "b.bundle"]
    given = ("compile", model, "--quantize", "int8", "--methods", "none", "--json")
    assert "channel 2" in cli(*given, "-c", data, "-o", bundles[0]).error
    told = cli(*given, "-c", data, "--allow-constant", "--ranges", ranges, "-o", bundles[0])
    assert told.code == 0 and told.data["quantization"]["quality"]["samples"] == 16
    assert cli(*given, "--use-ranges", ranges, "-o", bundles[1]).code == 0
    x = {"x": images[:1]}
    np.testing.assert_array_equal(*(Module(bundle)(x)["y"] for bundle in bundles))


def test_the_two_commands_share_their_options(cli: Cli) -> None:
    helped = [cli(command, "--help").out for command in ("quantize", "compile")]
    for field in fields(QuantizeOptions):
        assert all(f"--{field.name.replace('_', '-')} " in text for text in helped)


def test_calibration_needs_a_scheme(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    """So do the other options of quantisation, which would be ignored."""
    wrong = (
        ["-c", data],
        ["--labels", "y"],
        ["--methods", "none"],
        ["--samples", 3],
        ["--use-ranges", "r.json"],
    )
    for option in (*wrong, ["--allow-constant"], ["--ranges", tmp_path / "r.json"], ["--metric", "top5"]):
        failed = cli("compile", model, *option, "-o", tmp_path / "net.bundle")
        assert failed.code == 2 and "--quantize int8" in failed.error


def test_layers_in_order_of_harm(cli: Cli, model: Path, data: Path) -> None:
    shown = cli("quantize", model, "-c", data, "--explain", "--max-loss", "20%")
    assert shown.code == 0
    for text in ("order of harm", "--exclude", "conv", "dense"):
        assert text in shown.out
    assert re.search(r"loss +[\d.]+% of 20% allowed", shown.out)
    for wrong in ("much", "-1%", "nan"):
        assert "is no loss" in cli("quantize", model, "-c", data, "--max-loss", wrong).error
