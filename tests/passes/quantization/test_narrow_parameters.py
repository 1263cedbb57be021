"""Scales and zero points as they are stored: in half the bits where that changes no number."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import graphopt
from graphopt.analysis.integers import integer_shares
from graphopt.ir import DType, Graph, Node, Value
from graphopt.onnx_io.write import to_bytes
from graphopt.passes.quantization.narrow_parameters import narrow_parameters, storable
from graphopt.passes.quantization.parameters import for_weights, widened_for_bias
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Draft, made
from tests.passes.quantization.test_placement import attention, residual

CHANNELS, DEPTH = 6, 9


def test_scales_of_few_bits_are_numbers_of_float16() -> None:
    scale = np.geomspace(1e-5, 1e4, 400).astype(np.float32)
    near, up = storable(scale, 4), storable(scale, 4, up=True)
    for made_of in (near, up):
        assert made_of.dtype == np.float32 and np.array_equal(made_of, made_of.astype(np.float16))
    assert (np.abs(near / scale - 1) <= 2.0**-5).all() and (near < scale).any()
    assert (up >= scale).all() and (up / scale - 1 <= 2.0**-4).all()
    assert np.array_equal(storable(scale, 8), scale)


def test_what_float16_cannot_tell_apart_stays() -> None:
    scale = np.array([1e-7, 1e-38, 1e5], np.float32)
    assert np.array_equal(storable(scale, 4), scale) and np.array_equal(storable(scale, 4, up=True), scale)


def test_weights_and_biases_ask_for_such_scales() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(CHANNELS, DEPTH)).astype(np.float32)
    parameters = for_weights(weights, DType.int4, 4, 0, where="w")
    wide = widened_for_bias(parameters, np.float32(1e-6), random.normal(size=CHANNELS) * 1e6)
    assert (wide.scale > parameters.scale).any()
    for scale in (parameters.scale, wide.scale):
        assert np.array_equal(scale, storable(scale, 4))


def product(
    draft: Draft, scale: np.ndarray, dtype: DType = DType.int4, zero: int = 0, users: int = 1
) -> Value:
    """Products with weights of the same scale, one for each channel."""
    x = y = draft.input(2, DEPTH)
    scales = draft.const(scale)
    for _ in range(users):
        data = draft.random.integers(-8, 8, (DEPTH, CHANNELS))
        zeros = draft.const(np.full(CHANNELS, zero), dtype.numpy)
        w = draft.op("DequantizeLinear", draft.const(data, dtype.numpy), scales, zeros, axis=1)
        y = draft.op("Concat", y, draft.op("MatMul", x, w), axis=1)
    return y


HALVES = storable(np.linspace(0.01, 0.3, CHANNELS), 4)


def narrowed(*args: object, **options: object) -> Graph:
    """The graph, which computes what it did."""
    graph = made(lambda draft: product(draft, *args, **options))  # type: ignore[arg-type]
    inputs = random_inputs(graph, dims={})
    before = run(graph, inputs)
    narrow_parameters(graph)
    for name, want in before.items():
        assert np.array_equal(run(graph, inputs)[name], want)
    return graph


def operands(graph: Graph) -> list[tuple[Value | None, Value | None]]:
    found = [node for node in graph.nodes if node.is_op("DequantizeLinear")]
    return [(node.input(1), node.input(2)) for node in found]


def cast_of(value: Value | None) -> Node:
    assert value is not None and value.producer is not None and value.producer.is_op("Cast")
    return value.producer


def test_a_scale_is_cast_once_and_a_zero_left_out() -> None:
    graph = narrowed(HALVES, users=2)
    first, second = operands(graph)
    assert first == second and first[1] is None
    stored = cast_of(first[0]).inputs[0]
    assert stored is not None and stored.dtype is DType.float16 and stored.size == CHANNELS
    weights = 2 * CHANNELS * DEPTH
    assert integer_shares(graph).weight_bits == 4 * weights + 2 * 16 * CHANNELS


@pytest.mark.parametrize(
    ("scale", "dtype", "kept"),
    [(HALVES + np.float32(1e-6), DType.int4, 32), (HALVES, DType.int8, 32), (HALVES, DType.int4, 16)],
)
def test_only_what_is_exact_and_worth_it(scale: np.ndarray, dtype: DType, kept: int) -> None:
    graph = narrowed(scale, dtype, zero=1)
    ((_, zero),) = operands(graph)
    assert zero is not None and zero.size == CHANNELS
    bits = dtype.bits * CHANNELS * DEPTH + (kept + dtype.bits) * CHANNELS
    assert integer_shares(graph).weight_bits == bits


def test_one_scale_for_all_stays() -> None:
    graph = narrowed(HALVES[0])
    ((scale, _),) = operands(graph)
    assert scale is not None and scale.constant is not None


@pytest.mark.parametrize("build", [residual, attention])
@pytest.mark.parametrize("scheme", ["int4", "16x4", "weights-int4{group=4}"])
def test_run_times_read_the_file(build, scheme: str) -> None:  # type: ignore[no-untyped-def]
    """With and without ONNX Runtime's own rewriting, which must know a layer by its constant scales."""
    graph = made(build)
    data = [random_inputs(graph, dims={}, seed=seed) for seed in range(8)]
    result = graphopt.quantize(graph, data, scheme=scheme).graph
    assert any(node.is_op("Cast") for node in result.nodes)
    want = run(result, data[0])
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = onnxruntime.InferenceSession(to_bytes(result), options, providers=["CPUExecutionProvider"])
        for name, got in zip(want, session.run(None, dict(data[0])), strict=True):
            off = np.abs(got - want[name]).max()
            assert off <= 0.02 * np.abs(want[name]).max()
