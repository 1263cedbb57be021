"""Schemes of any kind side by side in one graph."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import verify
from graphopt.onnx_io.write import to_bytes
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import Scheme, parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, made
from tests.passes.quantization.quantised import bounds_of, samples_of
from tests.passes.quantization.test_placement import attention, computed, joined, residual, squeezed

INT8 = parse_scheme("int8")
KINDS = [None, INT8, *map(parse_scheme, ("16x8", "int8{activations=int8}", "int4", "weights-int8", "16x4"))]


@pytest.mark.parametrize("build", [residual, squeezed, joined, attention, computed])
@pytest.mark.parametrize("seed", range(4))
def test_any_assignment_gives_a_graph_that_runs(build: Build, seed: int) -> None:
    graph = made(build)
    random = np.random.default_rng(seed)
    samples = samples_of(graph)[:4]
    bounds = bounds_of(graph, samples)
    small = graph.clone()
    layers: dict = {}
    for node in layers_of(small, INT8):
        kind: Scheme | None = KINDS[random.integers(len(KINDS))]
        if kind is not None:
            layers[node] = kind
    insert_quantization(small, layers, bounds)
    verify(small)
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(to_bytes(small), options, providers=["CPUExecutionProvider"])
    for sample in samples:
        [float_answer], [answer] = run(graph, sample).values(), run(small, sample).values()
        scale = np.abs(float_answer).max()
        assert np.abs(answer - float_answer).max() < 0.35 * scale
        # A number near a tie may round to the other side, a step of its layer.
        assert np.abs(session.run(None, sample)[0] - answer).max() < 0.05 * scale


def test_two_readers_with_other_schemes_have_integers_of_their_own() -> None:
    """The value is quantised twice, from the floats."""
    graph = made(residual)
    bounds = bounds_of(graph, samples_of(graph))
    kinds = iter([INT8, parse_scheme("16x8"), INT8, INT8])
    insert_quantization(graph, {node: next(kinds) for node in layers_of(graph, INT8)}, bounds)
    relu = next(node for node in graph.nodes if node.op_type == "Relu")
    types = sorted(user.output.dtype.label for user in relu.output.users)
    assert types == ["int16", "uint8"]
