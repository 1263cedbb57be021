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
from graphopt.passes.integer_io import IntegerIO
from graphopt.rewrite import Statistics
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


def test_names_that_are_taken() -> None:
    def build(g: Draft) -> Value:
        how = [g.const(0.1), g.const(3, np.uint8)]
        floats = g.op("DequantizeLinear", g.op("QuantizeLinear", g.input(1, 4), *how), *how)
        return g.op("Sin", floats)

    graph = made(build)
    name = graph.inputs[0].name
    floats = next(node.output for node in graph.nodes if node.is_op("DequantizeLinear"))
    graph.rename(floats, f"{name}.float")
    IntegerIO().run(graph, Statistics())
    assert [(v.name, v.dtype) for v in graph.inputs] == [(name, DType.uint8)]
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "Sin"]


def test_an_input_that_is_quantised_in_two_ways_keeps_its_type() -> None:
    def build(g: Draft) -> Value:
        x, zero = g.input(1, 4), g.const(3, np.uint8)
        return g.op("Concat", *(g.op("QuantizeLinear", x, g.const(s), zero) for s in (0.1, 0.2)), axis=1)

    graph = made(build)
    IntegerIO().run(graph, Statistics())
    assert graph.inputs[0].dtype is DType.float32 and len(list(graph.nodes)) == 3


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
