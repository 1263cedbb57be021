"""Rounding the weights of quantised graphs: layers return more nearly what they did as floats."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Graph, Value, verify
from graphopt.onnx_io.write import to_model
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.passes.rounding.effect import Effect
from graphopt.passes.rounding.layer import layer_of
from graphopt.passes.rounding.learned import Schedule
from graphopt.passes.rounding.matrices import weight_rows
from graphopt.passes.rounding.methods import Learned, Nearest, SecondOrder
from graphopt.passes.rounding.round_weights import Rounding, round_weights
from graphopt.runtime.reference import random_inputs, run
from graphopt.runtime.stacked import run as run_stacked
from graphopt.runtime.stacked import stacks_of
from graphopt.runtime.twofold import run_twofold
from tests.passes.helpers import Build, Draft, made
from tests.passes.quantization.quantised import bounds_of

SAMPLES = 24


def convolutions(draft: Draft) -> Value:
    """A dense, a depthwise and a grouped one, a residual, a product; biases in all places."""
    first = draft.op(
        "Conv", draft.input(1, 3, 9, 7), draft.weight(8, 3, 3, 3), draft.weight(8), pads=(1, 1, 1, 1)
    )
    relu = draft.op("Relu", first)
    depthwise = draft.op("Conv", relu, draft.weight(8, 1, 3, 3), draft.weight(8), group=8, pads=(1, 1, 1, 1))
    clip = draft.op("Clip", depthwise, draft.const(0), draft.const(6))
    grouped = draft.op("Conv", clip, draft.weight(8, 4, 1, 1), group=2)
    pooled = draft.op("GlobalAveragePool", draft.op("Add", relu, grouped))
    flat = draft.op("Reshape", pooled, draft.ints(1, 8))
    return draft.op("Gemm", flat, draft.weight(5, 8), draft.weight(5), transB=1)


def transformer(draft: Draft) -> Value:
    x = draft.input(1, 5, 12)
    normal = draft.op("LayerNormalization", x, draft.weight(12, positive=True), draft.weight(12))
    hidden = draft.op("Add", draft.op("MatMul", normal, draft.weight(12, 40)), draft.weight(40))
    back = draft.op("MatMul", draft.op("Gelu", hidden), draft.weight(40, 12))
    return draft.op("Add", x, draft.op("Add", draft.weight(12), back))


def recurrence(draft: Draft) -> Value:
    weights = draft.weight(1, 64, 12), draft.weight(1, 64, 16), draft.weight(1, 128)
    every = draft.ops("LSTM", draft.input(9, 1, 12), *weights, outputs=1, hidden_size=16)[0]
    return draft.op("MatMul", draft.op("Reshape", every, draft.ints(9, 16)), draft.weight(16, 4))


def lookup(draft: Draft) -> Value:
    """Rows of a table by bytes of the input, moved into a layer."""
    index = draft.op("Cast", draft.op("Clip", draft.input(1, 9), draft.const(0), draft.const(5)), to=7)
    rows = draft.op("Gather", draft.weight(6, 12), index)
    return draft.op("MatMul", rows, draft.weight(12, 4))


GRAPHS = {"convolutions": convolutions, "transformer": transformer, "recurrence": recurrence}


def samples_of(graph: Graph, seeds: range) -> list[dict[str, np.ndarray]]:
    return [random_inputs(graph, seed) for seed in seeds]


def rounded(build: Build, scheme: str, rounding: Rounding) -> tuple[Graph, Graph, list[Effect]]:
    """The float graph, the rounded one, and the effects."""
    graph = made(build)
    samples = samples_of(graph, range(SAMPLES))
    quantised = graph.clone()
    layers = layers_of(quantised, parse_scheme(scheme))
    originals = insert_quantization(quantised, layers, bounds_of(graph, samples))
    effects = round_weights(quantised, stacks_of(quantised, samples), originals, rounding)
    verify(quantised)
    to_model(quantised)
    return graph, quantised, effects


def sqnr(graph: Graph, quantised: Graph) -> float:
    """Over samples that nobody has seen, in dB."""
    signal = noise = 0.0
    for sample in samples_of(graph, range(100, 116)):
        want, got = run(graph, sample), run(quantised, sample)
        for name in want:
            signal += np.square(want[name], dtype=np.float64).sum()
            noise += np.square(want[name].astype(np.float64) - got[name]).sum()
    return float(10 * np.log10(signal / noise))


AS_THEY_ARE = Rounding(Nearest(), refit=False, correct_bias=False)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [(name, scheme) for name in GRAPHS for scheme in ("int4", "16x4")]
    + [(name, "weights-int4{group=4}") for name in ("convolutions", "transformer")],
)
def test_fewer_bits_lose_less(name: str, scheme: str) -> None:
    graph, nearest, _ = rounded(GRAPHS[name], scheme, AS_THEY_ARE)
    _, second, effects = rounded(GRAPHS[name], scheme, Rounding())
    assert sqnr(graph, second) > sqnr(graph, nearest) + (0.2 if name == "recurrence" else 1)
    assert all(effect.after > effect.before - 0.1 for effect in effects), effects
    assert len(effects) == sum(layer_of(node) is not None for node in second.all_nodes()) > 1


def test_zero_points_lose_less_still() -> None:
    graph, one, _ = rounded(convolutions, "16x4", Rounding())
    _, with_zero, _ = rounded(convolutions, "16x4", Rounding(SecondOrder(zero_points=True)))
    assert sqnr(graph, with_zero) > sqnr(graph, one)


@pytest.mark.parametrize("scheme", ["int8", "int8{per_channel=false}", "weights-int3"])
def test_other_schemes_run(scheme: str) -> None:
    graph, nearest, _ = rounded(convolutions, scheme, AS_THEY_ARE)
    _, second, _ = rounded(convolutions, scheme, Rounding())
    # With 8 bits most of the error is that of the operands.
    assert sqnr(graph, second) > sqnr(graph, nearest) - 0.5


def test_nothing_is_changed_by_rounding_to_nearest() -> None:
    graph, nearest, effects = rounded(convolutions, "int8", AS_THEY_ARE)
    plain = graph.clone()
    samples = samples_of(graph, range(SAMPLES))
    insert_quantization(plain, layers_of(plain, parse_scheme("int8")), bounds_of(graph, samples))
    for sample in samples[:3]:
        for name, want in run(plain, sample).items():
            assert np.array_equal(run(nearest, sample)[name], want)
    assert all(effect.before == pytest.approx(effect.after) for effect in effects)


def test_bias_correction_takes_the_mean() -> None:
    _, quantised, _ = rounded(convolutions, "int4", Rounding(Nearest(), refit=False))
    samples = samples_of(made(convolutions), range(SAMPLES))
    plain, _, _ = rounded(convolutions, "int4", AS_THEY_ARE)
    want = np.stack([next(iter(run(plain, s).values())) for s in samples])
    got = np.stack([next(iter(run(quantised, s).values())) for s in samples])
    _, uncorrected, _ = rounded(convolutions, "int4", AS_THEY_ARE)
    off = np.stack([next(iter(run(uncorrected, s).values())) for s in samples])
    shift, before = np.abs((got - want).mean(axis=0)), np.abs((off - want).mean(axis=0))
    assert shift.max() < 0.1 * before.max()


@pytest.mark.parametrize("name", [*GRAPHS, "lookup"])
def test_both_runs_are_the_graphs_own(name: str) -> None:
    """Stacked runs against the reference, sample by sample: the float graph, and the quantised one."""
    graph = made({**GRAPHS, "lookup": lookup}[name])
    samples = samples_of(graph, range(4))
    quantised = graph.clone()
    originals = insert_quantization(
        quantised, layers_of(quantised, parse_scheme("int8")), bounds_of(graph, samples)
    )
    floats, integers = run_twofold(quantised, stacks_of(quantised, samples), originals)
    assert np.array_equal(run_stacked(quantised, stacks_of(quantised, samples))[0].data, integers[0].data)
    for index, sample in enumerate(samples):
        (want,), (low,) = run(graph, sample).values(), run(quantised, sample).values()
        scale = np.abs(want).max()
        assert np.abs(floats[0].data[index] - want).max() <= 1e-5 * scale
        # A sum that falls next to the middle of two integers may be rounded to either.
        assert np.abs(integers[0].data[index] - low).max() <= 0.02 * scale


def sparse(draft: Draft) -> Value:
    """A convolution and a product of which seven of ten weights are zero."""

    def weights(*shape: int) -> Value:
        numbers = draft.random.normal(size=shape)
        return draft.const(np.where(draft.random.random(shape) < 0.7, 0, numbers))

    x = draft.op("Conv", draft.input(1, 4, 6, 6), weights(8, 4, 3, 3), draft.weight(8))
    return draft.op("Gemm", draft.op("Flatten", draft.op("Relu", x)), weights(128, 10), draft.weight(10))


@pytest.mark.parametrize("method", [SecondOrder(), Nearest(), Learned(schedule=Schedule(steps=20))])
@pytest.mark.parametrize("scheme", ["int8", "16x4"])
def test_zeros_of_sparse_layers_stay(scheme: str, method: SecondOrder | Nearest | Learned) -> None:
    graph, quantised, _ = rounded(sparse, scheme, Rounding(method))
    layers = [layer for node in quantised.nodes if (layer := layer_of(node)) is not None]
    nodes = [node for node in graph.nodes if node.is_op("Conv", "Gemm")]
    assert len(layers) == len(nodes) == 2
    for layer, node in zip(layers, nodes, strict=True):
        before = weight_rows(node, node.inputs[1].constant)  # type: ignore[union-attr, arg-type]
        after = layer.grid.values(layer.integers)
        assert (after[before == 0] == 0).all() and (after[before != 0] != 0).mean() > 0.7
