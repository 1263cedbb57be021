"""What the tests of firmware share: small real models, compiled once for each core that a test names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import Graph
from graphopt.onnx_io.write import write_model
from graphopt.quantization import quantize
from graphopt.targets.bundle import Bundle
from tests.targets.firmware.residual import residual

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"

CORES = (
    "cortex-m0plus cortex-m3 cortex-m4 cortex-m4f cortex-m7 cortex-m33 cortex-m55 rv32imac rv32imafc".split()
)
"""Those that QEMU has a board for."""

STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror".split()

Firmware = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """`digits("cortex-m4f")` is the digit classifier's bundle for that core: a float model."""
    return _compiler(DIGITS, tmp_path_factory)


@pytest.fixture(scope="session")
def digits_int8(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The same, quantised by ours: integers between floats at both ends."""
    return _quantised("int8", tmp_path_factory)


@pytest.fixture(scope="session")
def digits_int4(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The same with weights of 4 bits."""
    return _quantised("int4", tmp_path_factory)


def _quantised(scheme: str, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    with np.load(DIGITS.with_suffix(".npz")) as data:
        pictures = (data["images"][:40].astype(np.float32) / 16)[:, None]
    path = tmp_path_factory.mktemp("quantised") / f"digits_{scheme}.onnx"
    write_model(quantize(DIGITS, pictures, methods="none", scheme=scheme).graph, path)
    return _compiler(path, tmp_path_factory)


@pytest.fixture(scope="session")
def keywords(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The same for MLPerf's keyword model, which is quantised; needs the zoo."""
    return _compiler(zoo("mlperf_kws_int8_qdq_op13.onnx"), tmp_path_factory)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The same for a small quantised network with a residual."""
    return _compiler(residual(), tmp_path_factory)


def zoo(name: str) -> Path:
    """A model of the zoo."""
    return Path(os.environ.get("GRAPHOPT_ZOO", "/nowhere"), "models", name)


def in_zoo(name: str) -> pytest.MarkDecorator:
    """Skips where the zoo lacks the model."""
    return pytest.mark.skipif(not zoo(name).is_file(), reason=f"needs {name} of the model zoo (GRAPHOPT_ZOO)")


def _compiler(model: Path | Graph, factory: pytest.TempPathFactory) -> Firmware:
    bundles: dict[str, Bundle] = {}

    def get(core: str) -> Bundle:
        if core not in bundles:
            out = factory.mktemp(core) / "firmware"
            bundles[core] = graphopt.compile(model, target=core, out=out, name="net")
        return bundles[core]

    return get


def clang(folder: Path, *arguments: str, target: str = "x86-linux-musl") -> subprocess.CompletedProcess[str]:
    """zig's C compiler; 32-bit x86 by default, which this machine runs."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
