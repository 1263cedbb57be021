"""Integers as inputs and outputs: the same answers as the quantised model's, in steps of the outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir import DType, Graph, Value
from graphopt.onnx_io.write import to_model
from graphopt.runtime.reference import run
from graphopt.targets.firmware.interface import Quantization, quantizations
from tests.passes.helpers import Draft, made
from tests.passes.quantization.test_placement import residual

SAMPLES = 16


def data_of(graph: Graph) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(5)
    return [
        {v.name: random.normal(size=v.static_shape).astype(np.float32) for v in graph.inputs}
        for _ in range(SAMPLES)
    ]


def stored(numbers: np.ndarray, how: Quantization) -> np.ndarray:
    return np.clip(np.rint(numbers / np.float32(how.scale)) + how.zero_point, 0, 255).astype(np.uint8)


def test_answers_are_those_of_the_quantised_model() -> None:
    graph = made(residual)
    data = data_of(graph)
    plain = graphopt.quantize(graph, data, methods="none").graph
    integers = graphopt.quantize(graph, data, methods="none", integer_io=True).graph
    assert [v.name for v in integers.inputs] == [v.name for v in plain.inputs]
    assert integers.output_names == plain.output_names
    assert {v.dtype for v in (*integers.inputs, *integers.outputs)} == {DType.uint8}
    known = quantizations(integers)
    assert set(known) == {v.name for v in integers.inputs} | set(integers.output_names)
    for sample in data:
        want = run(plain, sample)
        found = run(integers, {name: stored(x, known[name]) for name, x in sample.items()})
        for name, y in found.items():
            np.testing.assert_array_equal(y, stored(want[name], known[name]))
    onnx.checker.check_model(to_model(integers), full_check=True)


def test_an_input_that_is_read_as_floats_too_keeps_its_type() -> None:
    def build(g: Draft) -> Value:
        x = g.input(1, 4, 6, 6)
        return g.op("Add", g.op("Conv", x, g.weight(4, 4, 3, 3), pads=(1, 1, 1, 1)), g.op("Sin", x))

    graph = made(build)
    quantised = graphopt.quantize(graph, data_of(graph), methods="none", integer_io=True).graph
    assert quantised.inputs[0].dtype is DType.float32
    assert quantised.outputs[0].dtype is DType.uint8


@pytest.mark.parametrize("scheme", ["dynamic", "weights-int8"])
def test_schemes_without_integers_to_pass_are_refused(scheme: str) -> None:
    graph = made(residual)
    with pytest.raises(UsageError, match="has no integers that a caller could pass"):
        graphopt.quantize(graph, data_of(graph), scheme=scheme, methods="none", integer_io=True)


def test_firmware_reads_bytes(tmp_path: Path) -> None:
    graph = made(residual)
    quantised = graphopt.quantize(graph, data_of(graph), methods="none", integer_io=True).graph
    bundle = graphopt.compile(quantised, target="cortex-m4f", out=tmp_path / "fw", name="small")
    header = (bundle.path / "small.h").read_text()
    assert "SMALL_INPUT_0_SCALE" in header and "SMALL_OUTPUT_0_ZERO_POINT" in header
    assert "float *" not in (bundle.path / "small.c").read_text()
