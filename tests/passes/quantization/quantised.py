"""Small graphs, quantised by the ranges that they take on random inputs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphopt.ir import Graph, Node, Value, verify
from graphopt.onnx_io.write import to_model
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.scheme import Scheme, parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Build, made

SAMPLES = 8


def samples_of(graph: Graph) -> list[dict[str, np.ndarray]]:
    return [random_inputs(graph, seed) for seed in range(SAMPLES)]


def bounds_of(graph: Graph, samples: Iterable[dict[str, np.ndarray]]) -> dict[str, Bounds]:
    """Of every float that depends on an input."""
    tapped = graph.clone()
    for value in list(tapped.values()):
        if (
            value.constant is None
            and value.type is not None
            and value.dtype.is_float
            and not value.is_graph_output
        ):
            tapped.add_output(value)
    bounds: dict[str, Bounds] = {}
    for sample in samples:
        for name, array in {**run(tapped, sample), **sample}.items():
            low, high = bounds.get(name, (np.inf, -np.inf))
            bounds[name] = min(low, float(array.min())), max(high, float(array.max()))
    return bounds


def quantised(build: Build | Graph, scheme: str | Scheme = "int8", exclude: Iterable[str] = ()) -> Graph:
    """The graph, quantised; it is valid, and can be written."""
    graph = (build if isinstance(build, Graph) else made(build)).clone()
    bounds = bounds_of(graph, samples_of(graph))
    insert_quantization(graph, layers_of(graph, parse_scheme(scheme), exclude), bounds)
    verify(graph)
    to_model(graph)
    return graph


def sqnr(build: Build | Graph, scheme: str | Scheme = "int8") -> float:
    """Of the outputs on the same inputs, in dB."""
    graph = build if isinstance(build, Graph) else made(build)
    small = quantised(graph, scheme)
    signal = noise = 0.0
    for sample in samples_of(graph):
        want, got = run(graph, sample), run(small, sample)
        for name in want:
            signal += np.square(want[name], dtype=np.float64).sum()
            noise += np.square(want[name].astype(np.float64) - got[name]).sum()
    return float(10 * np.log10(signal / noise)) if noise else np.inf


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def quantisers(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op_type == "QuantizeLinear"]


def source(value: Value | None) -> Value:
    """What `value` is dequantised from."""
    assert value is not None and value.producer is not None and value.producer.op_type == "DequantizeLinear"
    found = value.producer.inputs[0]
    assert found is not None
    return found
