"""`graphopt compile`, `run`, `bench` and `verify` on one small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.targets import emulator
from graphopt.targets.device import load_target
from tests.cli.conftest import Cli

LIMIT = 128 * np.finfo(np.float32).eps
"""Of the output's scale: sums of at most 64 products, in two orders, rounded once more each by folding."""


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(3, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(model: Path, samples: np.ndarray) -> np.ndarray:
    evaluator = ReferenceEvaluator(str(model))
    return np.concatenate([evaluator.run(None, {"x": x[np.newaxis]})[0] for x in samples])


def close(got: np.ndarray, want: np.ndarray) -> bool:
    return got.shape == want.shape and bool(np.abs(got - want).max() <= LIMIT * np.abs(want).max())


def test_compile_says_where_it_is_and_how_to_use_it(cli: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.bundle"
    shown = cli("compile", model, "-o", out, "--time-passes", "--explain", "fold-batchnorm")
    assert (shown.code, shown.err) == (0, "")
    for text in (str(out), f"graphopt run {out} --random", "float32[1, 3, 8, 8]", "fired once", "total"):
        assert text in shown.out
    assert (out / "libnet.so").is_file()


def test_compile_for_a_program(cli: Cli, model: Path, tmp_path: Path) -> None:
    data = cli("compile", model, "-o", tmp_path / "b", "--json", "--explain", "fold-batchnorm").data
    assert data["library_bytes"] == Path(data["library"]).stat().st_size
    assert data["contract"]["inputs"][0]["shape"] == [1, 3, 8, 8]
    assert len(data["explain"]["fold-batchnorm-into-producer"]["fired"]) == 1
    assert sum(sum(step["fired"].values()) for step in data["passes"]) > 0


def test_compile_prints_after_a_pass(cli: Cli, model: Path, tmp_path: Path) -> None:
    shown = cli("compile", model, "-o", tmp_path / "b", "--print-after", "fold-batchnorm")
    assert "# after fold-batchnorm\ngraph net (opset 24) {" in shown.out


def test_inspect_a_bundle(cli: Cli, bundle: Path) -> None:
    data = cli("inspect", bundle, "--json").data
    assert data["summary"]["macs"] == sum(layer["macs"] for layer in data["layers"]) == 4 * 64 * 27 + 20
    assert {name for layer in data["layers"] for name in layer["origin"]} >= {"conv", "norm", "relu", "dense"}
    shown = cli("inspect", bundle, "--nodes").out
    for text in ("6,912", "the least possible", "arena of", "from layer", "net.bundle"):
        assert text in shown
    failed = cli("inspect", bundle, "--input-shape", "x=1,3,8,8")
    assert failed.code == 2 and "fixed" in failed.error


def test_run_one_array(
    cli: Cli, bundle: Path, samples: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", samples[:1])
    out = tmp_path / "out.npz"
    shown = cli("run", bundle, "--input", f"x={tmp_path / 'x.npy'}", "--out", out, "--threads", 2)
    assert (shown.code, shown.err) == (0, "")
    assert "float32[1, 5]" in shown.out and str(expected[0].argmax()) in shown.out
    with np.load(out) as saved:
        assert close(saved["y"], expected[:1])


def test_run_many_samples(
    cli: Cli, bundle: Path, samples: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    data = cli("run", bundle, "--inputs", tmp_path / "x.npz", "--json").data
    [output] = data["outputs"]
    assert data["samples"] == 3
    assert close(np.array(output["values"], np.float32), expected)
    assert output["argmax"] == expected.argmax(axis=1).tolist()


def test_one_array_of_an_archive_is_for_the_only_input(
    cli: Cli, model: Path, bundle: Path, samples: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    """As `quantize` and `compare` take it."""
    np.savez(tmp_path / "x.npz", images=samples, labels=np.arange(3))
    [output] = cli("run", bundle, "--inputs", f"{tmp_path / 'x.npz'}:images", "--json").data["outputs"]
    assert close(np.array(output["values"], np.float32), expected)
    assert (
        cli("verify", model, bundle, "--inputs", f"{tmp_path / 'x.npz'}:images", "--json").data["samples"]
        == 3
    )
    for command in (("run", bundle), ("verify", model, bundle)):
        failed = cli(*command, "--inputs", f"{tmp_path / 'x.npz'}:image")
        assert failed.code == 2 and "x.npz: it has no array 'image' [did you mean images?]" in failed.error
    out = tmp_path / "x.npz"
    assert cli("run", bundle, "--inputs", f"{out}:images", "--out", out).code == 2


def test_random_inputs_come_from_the_seed(cli: Cli, bundle: Path) -> None:
    first, again, other = (cli("run", bundle, "--random", "--seed", seed, "--json").out for seed in (1, 1, 2))
    assert first == again != other


def test_what_is_wrong_with_the_inputs(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    good, wide, double = (tmp_path / f"{name}.npy" for name in ("good", "wide", "double"))
    np.save(good, np.zeros((1, 3, 8, 8), np.float32))
    np.save(wide, np.zeros((1, 3, 9, 8), np.float32))
    np.save(double, np.zeros((1, 3, 8, 8)))
    np.save(tmp_path / "none at all.npy", np.zeros((0, 3, 8, 8), np.float32))
    (tmp_path / "notes.txt").write_text("a poem")
    for arguments, texts in [
        ([], ["no inputs", "x: float32[1, 3, 8, 8]", "--random"]),
        (["--random", "--input", f"x={good}"], ["--input and --random exclude each other [give one"]),
        (["--input", f"z={good}"], ["--input: ", "'z'", "x"]),
        (["--input", f"z={tmp_path / 'notes.txt'}"], ["no input 'z'", "its inputs: x"]),
        (
            ["--input", f"x={tmp_path / 'notes.txt'}"],
            ["notes.txt: it is neither .npy nor .npz", "numpy.save"],
        ),
        (["--input", f"x={tmp_path}"], [f"{tmp_path}: cannot be read: Is a directory"]),
        (["--input", f"x={good}", "--input", f"x={good}"], ["'x' is given twice"]),
        (["--input", f"x={tmp_path / 'none at all.npy'}"], ["no samples"]),
        (["--input", f"x={wide}"], ["'x'", "[1, 3, 9, 8]", "[1, 3, 8, 8]"]),
        (["--input", f"x={double}"], ["'x'", "float64", "float32"]),
        (["--input", str(good)], ["NAME=FILE.npy"]),
        (["--input", f"x={tmp_path / 'none.npy'}"], ["none.npy", "No such file"]),
        (["--inputs", str(good)], ["--input NAME=FILE.npy"]),
        (["--random", "--on", "mars"], ["mars", "qemu"]),
        (["--random", "--on", "qemu"], ["needs no emulation"]),
        (["--random", "--out", str(tmp_path / "no" / "out.npz")], ["No such file"]),
    ]:
        failed = cli("run", bundle, *arguments)
        assert failed.code == 2, failed
        assert all(text in failed.error for text in texts), failed.error


def test_a_bundle_of_another_machine(cli: Cli, foreign: Path) -> None:
    failed = cli("run", foreign, "--random")
    assert failed.code == 2
    assert "rpi-armv7" in failed.error and "--on qemu" in failed.error


@pytest.mark.qemu
def test_run_under_emulation(
    cli: Cli, foreign: Path, samples: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    reason = emulator.missing(load_target("rpi-armv7"))
    if reason:
        pytest.skip(reason)
    np.save(tmp_path / "x.npy", samples[:1])
    data = cli("run", foreign, "--input", f"x={tmp_path / 'x.npy'}", "--on", "qemu", "--json").data
    assert close(np.array(data["outputs"][0]["values"], np.float32), expected[:1])


def test_bench(cli: Cli, bundle: Path) -> None:
    data = cli("bench", bundle, "--threads", "1,2", "--seconds", 0.01, "--json").data
    assert [entry["threads"] for entry in data["latencies"]] == [1, 2]
    assert all(0 < e["minimum_s"] <= e["median_s"] and e["runs"] >= 3 for e in data["latencies"])
    assert data["worst_error"] is None
    assert "median" in cli("bench", bundle, "--seconds", 0.01).out


def test_bench_against_onnx_runtime(cli: Cli, bundle: Path, model: Path) -> None:
    pytest.importorskip("onnxruntime")
    data = cli("bench", bundle, "--against", model, "--threads", 1, "--seconds", 0.01, "--json").data
    ours, theirs = data["latencies"]
    assert (ours["runtime"], theirs["runtime"]) == ("graphopt", "ONNX Runtime")
    assert data["speedup"]["1"] == pytest.approx(theirs["median_s"] / ours["median_s"])
    assert 0 <= data["worst_error"] <= LIMIT
    assert "x" in cli("bench", bundle, "--against", model, "--threads", 1, "--seconds", 0.01).out


def test_bench_refuses_to_time_an_emulator(cli: Cli, foreign: Path) -> None:
    failed = cli("bench", foreign)
    assert failed.code == 2
    assert "rpi-armv7" in failed.error and "not time" in failed.error and "./example" in failed.error


def test_runtimes_take_turns() -> None:
    from graphopt.measurement import SMALLEST_ROUNDS, measure

    turns: list[str] = []
    runs = {(name, 1): lambda name=name: turns.append(name) or {} for name in ("a", "b")}  # type: ignore[misc]
    taken = measure(runs, 0.0)
    blocks = [name for number, name in enumerate(turns) if number == 0 or turns[number - 1] != name]
    assert blocks == ["a", "b"] * SMALLEST_ROUNDS
    counted = {key: len(times) for key, times in taken.items()}
    assert counted == {(name, 1): turns.count(name) - SMALLEST_ROUNDS for name in ("a", "b")}
