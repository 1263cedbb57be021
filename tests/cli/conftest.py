"""The command line in this process, small models, and bundles compiled once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on standard error of a command that failed, with nothing on standard output."""
        assert self.code != 0
        assert self.out == ""
        [line] = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("inspect", path)` runs a command."""
    monkeypatch.delenv("GRAPHOPT_DEBUG", raising=False)
    monkeypatch.delenv("GRAPHOPT_VERIFY", raising=False)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def network(batch: int | str = 1) -> onnx.ModelProto:
    """Convolution, batch normalisation, ReLU, mean, a dense layer; 3 x 8 x 8 to 5 numbers. Trained on nothing."""
    random = np.random.default_rng(0)
    constants = {
        "w": random.normal(size=(4, 3, 3, 3)),
        "scale": random.uniform(0.5, 2, 4),
        "shift": random.normal(size=4),
        "mean": random.normal(size=4),
        "variance": random.uniform(0.5, 2, 4),
        "v": random.normal(size=(4, 5)),
        "b": random.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(data.astype(np.float32), name) for name, data in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only by agreement: what several tests share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def model(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture(scope="session")
def dynamic(folder: Path) -> Path:
    """The same with a batch of N."""
    path = folder / "dynamic.onnx"
    onnx.save(network("N"), path)
    return path


@pytest.fixture(scope="session")
def bundle(model: Path, folder: Path) -> Path:
    """For this machine."""
    assert main(["compile", str(model), "-o", str(folder / "net.bundle"), "--json"]) == 0
    return folder / "net.bundle"


@pytest.fixture(scope="session")
def foreign(model: Path, folder: Path) -> Path:
    """For a Raspberry Pi with a 32-bit system."""
    path = folder / "pi.bundle"
    assert main(["compile", str(model), "-t", "rpi-armv7", "-o", str(path), "--json"]) == 0
    return path
