"""`graphopt verify`: who judges, which file, and what is said of it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.cli import main
from tests.cli.conftest import Cli, network

LIMIT = 128 * np.finfo(np.float32).eps
"""Of the output's scale: sums of at most 64 products, in two orders, rounded once more each by folding."""


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_the_model_itself(cli: Cli, model: Path, bundle: Path) -> None:
    checked = cli("verify", model, bundle, "--json")
    data = checked.data
    assert data["agrees"] is True and data["worst"] <= LIMIT
    assert data["same_source"] is True
    shown = cli("verify", model, bundle, "--samples", 1)
    assert "agrees" in shown.out and "another file" not in shown.err


def test_other_weights_behind_the_same_interface(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    other = network()
    [bias] = [tensor for tensor in other.graph.initializer if tensor.name == "b"]
    bias.CopyFrom(numpy_helper.from_array(np.zeros(5, np.float32), "b"))
    failed = cli("verify", saved(other, tmp_path / "other.onnx"), bundle)
    assert failed.code == 6
    assert "differs" in failed.out and "'y'" in failed.err
    assert "was compiled from another file" in failed.err


def test_a_model_exported_again_is_compared_and_told(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    """The same network, with an open batch."""
    again = saved(network("N"), tmp_path / "again.onnx")
    data = cli("verify", again, bundle, "--json").data
    assert data["agrees"] is True and data["same_source"] is False
    shown = cli("verify", again, bundle)
    assert shown.code == 0
    [line] = [line for line in shown.err.splitlines() if "another file" in line]
    assert line.startswith("warning: ") and str(bundle) in line and "again.onnx" in line


@pytest.mark.parametrize("change", ["input", "output", "shape", "type"])
def test_another_interface_is_no_comparison(cli: Cli, bundle: Path, tmp_path: Path, change: str) -> None:
    x = helper.make_tensor_value_info("z" if change == "input" else "x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("z" if change == "output" else "y", TensorProto.FLOAT, [1, 5])
    if change == "shape":
        x.type.tensor_type.shape.dim[1].dim_value = 4
    if change == "type":
        x.type.tensor_type.elem_type = y.type.tensor_type.elem_type = TensorProto.DOUBLE
    axes, shape = (
        numpy_helper.from_array(np.array(data), name) for name, data in (("a", [1]), ("s", [1, 5]))
    )
    nodes = [
        helper.make_node("ReduceMax", [x.name], ["m"], "max", axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m"], ["f"], "flatten"),
        helper.make_node("Expand", ["f", "s"], [y.name], "expand"),
    ]
    graph = helper.make_graph(nodes, "other", [x], [y], [axes, shape])
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    failed = cli("verify", saved(other, tmp_path / "other.onnx"), bundle)
    assert failed.code == 2
    assert failed.error.startswith(f"{tmp_path / 'other.onnx'}: it is another model: it takes ")
    assert "the bundle takes x: float32[1, 3, 8, 8] and gives y: float32[1, 5]" in failed.error
    assert "net.onnx" in failed.error


def test_a_file_that_onnx_runtime_refuses(cli: Cli, tmp_path: Path) -> None:
    """Two nodes of one name: ONNX allows it, ONNX Runtime does not."""
    twice = network()
    for node in twice.graph.node:
        node.name = "same"
    path = saved(twice, tmp_path / "twice.onnx")
    assert cli("compile", path, "-o", tmp_path / "twice.bundle", "--json").code == 0
    data = cli("verify", path, tmp_path / "twice.bundle", "--json").data
    assert data["oracle"] == "the reference evaluator" and data["oracle_note"]
    assert data["worst"] <= LIMIT
    shown = cli("verify", path, tmp_path / "twice.bundle")
    assert shown.code == 0 and "against the reference evaluator" in shown.out
    assert shown.err.startswith("warning: ONNX Runtime ")
    assert "the reference evaluator judges instead" in shown.err


@pytest.fixture(scope="module")
def quantised(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that `compile --quantize` made of the float model."""
    folder = tmp_path_factory.mktemp("quantised")
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "samples.npz", x=images)
    made = folder / "q.bundle"
    options = ["--quantize", "int8", "--calibration", str(folder / "samples.npz")]
    assert main(["compile", str(model), *options, "-o", str(made), "--json"]) == 0
    return made


def test_a_quantised_bundle_that_differs_is_told_what_to_do(cli: Cli, model: Path, quantised: Path) -> None:
    failed = cli("verify", model, quantised, "--tolerance", 1e-7)
    last = failed.err.splitlines()[-1]
    assert failed.code == 6 and "above 1e-07" in last
    assert "only the bundle is quantised" in last and "graphopt quantize -o" in last
    assert "graphopt compare" in last
    assert "graphopt compare" in cli("verify", model, quantised, "--tolerance", 1).err


def test_a_float_bundle_that_differs_has_no_such_hint(cli: Cli, model: Path, bundle: Path) -> None:
    failed = cli("verify", model, bundle, "--tolerance", 0, "--samples", 50)
    assert failed.code == 6 and "quantised" not in failed.err


def test_without_onnx_runtime_it_is_told_how_to_get_it(
    cli: Cli, model: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    shown = cli("verify", model, bundle)
    assert shown.code == 0 and "(pip install onnxruntime)" in shown.err
    failed = cli("bench", bundle, "--against", model, "--seconds", 0.01)
    assert failed.code == 5 and "pip install onnxruntime" in failed.error


def test_inputs_that_do_not_fit(cli: Cli, model: Path, bundle: Path, tmp_path: Path) -> None:
    for arrays, texts in (
        ({"x": np.zeros((1, 3, 8, 8))}, ["'x'", "float64", "float32"]),
        ({"x": np.zeros((1, 3, 8, 9), np.float32)}, ["'x'", "[1, 3, 8, 9]", "[1, 3, 8, 8]"]),
        ({"x": np.zeros((0, 3, 8, 8), np.float32)}, ["no samples"]),
        ({"xx": np.zeros((1, 3, 8, 8), np.float32)}, ["no input 'xx'", "inputs: x"]),
        ({}, ["missing input x: float32[1, 3, 8, 8]"]),
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        failed = cli("verify", model, bundle, "--inputs", tmp_path / "x.npz")
        assert failed.code == 2
        assert all(text in failed.error for text in texts), failed.error


@pytest.mark.parametrize(
    ("command", "lost"),
    [
        *(
            (command, lost)
            for command in ("verify", "inspect")
            for lost in ("libnet.so", "report.json", "net.h")
        ),
        *((command, "libnet.so") for command in ("run", "bench")),
        *((command, "manifest.json") for command in ("verify", "inspect", "run", "bench")),
    ],
)
def test_a_bundle_that_is_not_whole(
    cli: Cli, model: Path, bundle: Path, tmp_path: Path, command: str, lost: str
) -> None:
    half = Path(shutil.copytree(bundle, tmp_path / "half.bundle"))
    (half / lost).unlink()
    arguments = {"verify": (model, half), "run": (half, "--random"), "bench": (half,), "inspect": (half,)}
    failed = cli(command, *arguments[command])
    assert failed.code == 2
    assert str(half) in failed.error and lost in failed.error and "[" in failed.error
