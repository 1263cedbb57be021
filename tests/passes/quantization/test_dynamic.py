"""Ranges that are found while the model runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from graphopt.api import compile
from graphopt.ir import Value
from graphopt.onnx_io.write import to_bytes
from graphopt.runtime.module import Module
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, made
from tests.passes.quantization.quantised import operators, quantised, samples_of, sqnr
from tests.passes.quantization.test_placement import attention, computed, conv, residual


def turned(g: Draft) -> Value:
    return g.op("Gemm", g.input(2, 6), g.weight(5, 6), g.weight(5), transB=1)


def turned_twice(g: Draft) -> Value:
    return g.op("Gemm", g.input(6, 2), g.weight(6, 5), g.weight(5), transA=1)


def grouped(g: Draft) -> Value:
    return conv(g, g.op("Relu", conv(g, g.input(1, 4, 5, 5), 8, group=2)), 8, group=8)


@pytest.mark.parametrize("build", [residual, attention, turned, turned_twice, computed, grouped])
def test_every_product_is_one_of_integers(build: Build) -> None:
    graph = quantised(build, "dynamic")
    assert not {"Conv", "Gemm", "MatMul"} & set(operators(graph))
    assert sqnr(build, "dynamic") > 28
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    [answer] = session.run(
        None, samples_of(graph)[0]
    )  # its sums saturate where there is no VNNI: no numbers here
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("build", [residual, attention])
def test_compiles_to_the_same(build: Build, tmp_path: Path) -> None:
    """A sum near a tie may round to the other side, a step of its layer."""
    graph = quantised(build, "dynamic")
    module = Module(compile(graph, out=tmp_path / "b", name="dynamic").path)
    for sample in samples_of(graph):
        [want], [got] = run(graph, sample).values(), module(sample).values()
        np.testing.assert_allclose(got, want, rtol=0, atol=0.02 * np.abs(want).max())


def test_what_several_read_is_quantised_once() -> None:
    graph = quantised(attention, "dynamic")
    readers = [node.inputs[0] for node in graph.nodes if node.op_type == "DynamicQuantizeLinear"]
    assert len(readers) == len(set(readers)) == 8


def test_a_transposed_convolution_stays() -> None:
    graph = made(lambda g: g.op("ConvTranspose", conv(g, g.input(1, 3, 4, 4), 2), g.weight(2, 3, 2, 2)))
    assert "ConvTranspose" in operators(quantised(graph, "dynamic"))
