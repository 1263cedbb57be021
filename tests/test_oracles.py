"""The oracle of quantised models: what it replaces, what it must leave, and that a wrong answer does not pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.oracles import onnx_runtime
from graphopt.integer_oracle import IntegerKernels, integer_kernels
from graphopt.ir import DType, Graph
from graphopt.onnx_io.write import write_model
from graphopt.runtime import reference
from graphopt.verification import verify_bundle
from tests.passes.helpers import Draft, made

SCALE, WEIGHTS = 0.05, np.array([0.002, 0.004], np.float32)
BIAS = np.float32(SCALE) * WEIGHTS


def convolution(
    *,
    scale: object = SCALE,
    bias_scale: object = BIAS,
    axis: int = 0,
    relu: bool = False,
    zero: int = -128,
    step: float = 0.1,
) -> Graph:
    """int8[1, 2, 6, 6] through one quantised convolution with two filters."""

    def build(g: Draft) -> None:
        image = g.input(1, 2, 6, 6, dtype=DType.int8)
        zeros = np.full(np.shape(scale), 3)
        x = g.op("DequantizeLinear", image, g.const(scale), g.const(zeros, np.int8), axis=1)
        numbers = g.const(g.random.integers(-127, 128, (2, 2, 3, 3)), np.int8)
        w = g.op("DequantizeLinear", numbers, g.const(WEIGHTS), g.const([0, 0], np.int8), axis=axis)
        numbers = g.const([40, -900], np.int32)
        b = g.op("DequantizeLinear", numbers, g.const(bias_scale), g.const([0, 0], np.int32), axis=0)
        y = g.op("Conv", x, w, b, pads=(1, 1, 1, 1))
        y = g.op("Relu", y) if relu else y
        g.output(g.op("QuantizeLinear", y, g.const(step), g.const(zero, np.int8)))

    return made(build)  # type: ignore[arg-type]


def kernels(graph: Graph, folder: Path) -> IntegerKernels:
    write_model(graph, folder / "model.onnx")
    found = integer_kernels(folder / "model.onnx")
    assert found is not None
    return found


def inputs() -> dict[str, np.ndarray]:
    return {"x0": np.random.default_rng(2).integers(-128, 128, (1, 2, 6, 6)).astype(np.int8)}


@pytest.mark.parametrize("relu", [False, True])
def test_judges(relu: bool, tmp_path: Path) -> None:
    """Equal to compiled kernels; a scale that is wrong by a part in a thousand shows."""
    found = kernels(convolution(relu=relu), tmp_path)
    assert (found.replaced, found.left, str(found)) == (1, (), "integers 1/1")
    (want,) = onnx_runtime(found.model)(inputs()).values()
    assert len(np.unique(want)) > 20
    module = graphopt.Module(graphopt.compile(tmp_path / "model.onnx", out=tmp_path / "m").path)
    np.testing.assert_array_equal(*module(inputs()).values(), want)
    checked = verify_bundle(tmp_path / "model.onnx", tmp_path / "m", samples=2, tolerance=0.0)
    assert checked.agrees and checked.oracle == "ONNX Runtime, 1 of 1 quantised sums in integers"
    (broken,) = reference.run(convolution(relu=relu, step=0.1 * 1.001), inputs()).values()
    assert (broken != want).any()


def test_products_of_large_bytes_do_not_saturate(tmp_path: Path) -> None:
    """255 x 127, many times: pairs of such products exceed 16 bits, where AVX2 without VNNI adds them."""

    def build(g: Draft) -> None:
        zero, none = g.const(0, np.uint8), g.const(np.zeros(8), np.int8)
        x = g.op("DequantizeLinear", g.input(1, 16, 6, 6, dtype=DType.uint8), g.const(SCALE), zero)
        steps = g.const(np.full(8, 0.002))
        w = g.op("DequantizeLinear", g.const(np.full((8, 16, 3, 3), 127), np.int8), steps, none, axis=0)
        b = g.op(
            "DequantizeLinear",
            g.const(np.zeros(8), np.int32),
            g.const(np.full(8, np.float32(SCALE) * np.float32(0.002))),
            g.const(np.zeros(8), np.int32),
            axis=0,
        )
        g.output(g.op("QuantizeLinear", g.op("Conv", x, w, b), g.const(2.0), zero))

    found = kernels(made(build), tmp_path)
    assert found.replaced == 1
    (got,) = onnx_runtime(found.model)({"x0": np.full((1, 16, 6, 6), 255, np.uint8)}).values()
    assert (got == round(255 * SCALE * 127 * 0.002 * 144 / 2)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: convolution(scale=[SCALE, SCALE / 2]),
        lambda: convolution(bias_scale=BIAS * np.float32(1.0001)),
        lambda: convolution(axis=1),
        lambda: convolution(relu=True, zero=5),
    ],
    ids=[
        "a scale for each input channel",
        "another scale for the bias",
        "weights by input channel",
        "Relu inside",
    ],
)
def test_leaves_what_QLinearConv_cannot(make: Callable[[], Graph], tmp_path: Path) -> None:  # noqa: N802
    found = kernels(make(), tmp_path)
    assert (found.replaced, [node.op_type for node in found.left], str(found)) == (0, ["Conv"], "floats")


WITHOUT_ONNX_RUNTIME = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "onnxruntime" else find(name, *rest)
sys.modules["onnxruntime"] = None
runpy.run_module("bench.zoo", run_name="__main__")
"""


def test_the_benchmark_tells_what_to_install() -> None:
    def zoo(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_ONNX_RUNTIME, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert zoo("--help").returncode == 0
    refused = zoo("--quick")
    assert refused.returncode == 2 and "[pip install onnxruntime]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_knows_a_float_model(tmp_path: Path) -> None:
    graph = made(lambda g: g.op("Conv", g.input(1, 2, 6, 6), g.weight(2, 2, 3, 3)))
    write_model(graph, tmp_path / "model.onnx")
    assert integer_kernels(tmp_path / "model.onnx") is None
