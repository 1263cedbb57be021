"""Analytic bias correction: moments of clipped normals, means through a graph, biases that take expected errors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import Graph, Node, Value
from graphopt.passes.rounding.expectations import Expectation, clipped, expectations, normalised
from graphopt.quantization import quantize
from graphopt.runtime.reference import run
from graphopt.runtime.stacked import Operand, Operands, evaluate, stacks_of
from graphopt.runtime.stacked import run as run_stacked
from tests.passes.helpers import Build, Draft, made
from tests.passes.rounding.test_round_weights import convolutions, recurrence, samples_of, sqnr

CHANNELS = 6


@pytest.mark.parametrize("ends", [(0.0, math.inf), (0.0, 6.0), (-math.inf, 1.5), (-0.5, 0.5)])
def test_moments_of_clipped_normals(ends: tuple[float, float]) -> None:
    mean, deviation = np.array([-2.0, 0.3, 5.0, 1.0]), np.array([1.0, 2.0, 0.5, 0.0])
    x = np.random.default_rng(0).normal(mean, deviation, (200_000, 4)).clip(*ends)
    made = clipped(Expectation(mean, deviation**2), *ends)
    assert np.abs(made.mean - x.mean(0)).max() < 0.02
    assert np.abs(made.variance - x.var(0)).max() < 0.02


def normalised_network(draft: Draft) -> Value:
    """Two batch normalisations, and layers behind which there is none."""
    x = draft.input(1, 3, 8, 8)
    first = draft.op("Conv", x, draft.weight(CHANNELS, 3, 3, 3), draft.weight(CHANNELS), pads=(1, 1, 1, 1))
    one = draft.op("Relu", normalisation(draft, first))
    depthwise = draft.op("Conv", one, draft.weight(CHANNELS, 1, 3, 3), group=CHANNELS)
    two = draft.op("Clip", normalisation(draft, depthwise), draft.const(0), draft.const(6))
    wide = draft.op("HardSwish", draft.op("Conv", two, draft.weight(8, CHANNELS, 1, 1), draft.weight(8)))
    flat = draft.op("Flatten", draft.op("GlobalAveragePool", wide))
    return draft.op("Gemm", flat, draft.weight(5, 8), draft.weight(5), transB=1)


def all_operators(draft: Draft) -> Value:
    """Everything that means pass, behind a batch normalisation of independent normal numbers."""
    numbers = draft.weight(3, positive=True), draft.weight(3), draft.const([0, 0, 0]), draft.const([1, 1, 1])
    x = draft.op("BatchNormalization", draft.input(1, 3, 8, 8), *numbers)
    relu, clip = draft.op("Relu", x), draft.op("Clip", x, draft.const(-1), draft.const(0.5))
    both = draft.op("Concat", draft.op("HardSwish", x), draft.op("Add", clip, draft.weight(3, 1, 1)), axis=1)
    layer = draft.op("Conv", draft.op("AveragePool", both, kernel_shape=(2, 2)), draft.weight(4, 6, 3, 3))
    last = draft.op("Transpose", draft.op("Add", layer, draft.op("Conv", relu, draft.weight(4, 3, 4, 4))))
    return draft.op("MatMul", draft.op("Flatten", last), draft.weight(20, 4))


def normalisation(draft: Draft, x: Value) -> Value:
    """One that is right about the mean and the variance of what random inputs make of `x`."""
    graph = draft.graph
    results = np.stack([next(iter(run_to(graph, x, seed).values())) for seed in range(64)])
    axes = (0, 1, 3, 4)
    statistics = results.mean(axes), results.var(axes)
    gamma, beta = draft.weight(CHANNELS, positive=True), draft.weight(CHANNELS)
    return draft.op("BatchNormalization", x, gamma, beta, *map(draft.const, statistics))


def run_to(graph: Graph, value: Value, seed: int) -> dict[str, np.ndarray]:
    copy = graph.clone()
    copy.add_output(next(v for v in copy.values() if v.name == value.name))
    return run(copy, samples_of(copy, range(seed, seed + 1))[0])


def test_means_are_those_of_samples() -> None:
    graph, count = made(all_operators), 400
    found = expectations(graph, normalised(graph))
    assert len(found) == len(list(graph.nodes))

    def each(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
        results = evaluate(node, operands, environment)
        stack = results[0].data
        error = np.abs(found[node.output].mean - stack.mean(0)) / (stack.std(0) + 1e-6)
        assert error.max() < 6 / np.sqrt(count), node
        return results

    run_stacked(graph, stacks_of(graph, samples_of(graph, range(count))), each)


def test_without_samples() -> None:
    graph = made(normalised_network)
    plain = quantize(graph, scheme="weights-int3", methods="none")
    corrected = quantize(graph, scheme="weights-int3")
    assert sqnr(graph, corrected.graph) > sqnr(graph, plain.graph) + 1
    assert [effect.layer for effect in corrected.effects] == [
        node.origin.known_as(node.name) for node in plain.graph.nodes if node.is_op("Conv", "Gemm")
    ][1:], "all but the first, whose operand nobody knows"
    assert all(effect.after >= effect.before for effect in corrected.effects)


def test_means_of_samples_stand_in() -> None:
    """Behind a layer without pads nothing is left of the mean error that its weights make."""

    def one(draft: Draft) -> Value:
        return draft.op(
            "Conv", draft.input(1, 3, 8, 8), draft.weight(CHANNELS, 3, 1, 1), draft.weight(CHANNELS)
        )

    graph = made(one)
    samples = samples_of(graph, range(32))
    errors = {}
    for methods in ("none", "analytic-bias"):
        made_of = quantize(graph, samples, scheme="weights-int3", methods=methods).graph
        off = [next(iter(run(made_of, s).values())) - next(iter(run(graph, s).values())) for s in samples]
        errors[methods] = np.abs(np.stack(off).mean((0, 1, 3, 4))).max()
    assert errors["analytic-bias"] < 1e-5 < 1e-3 < errors["none"]


@pytest.mark.parametrize("build", [convolutions, recurrence])
def test_behind_rounding_and_in_recurrences(build: Build) -> None:
    graph = made(build)
    samples = samples_of(graph, range(8))
    result = quantize(graph, samples, scheme="int4", methods="round+analytic-bias")
    rounded = quantize(graph, samples, scheme="int4", methods="round")
    corrected = result.effects[len(rounded.effects) :]
    assert corrected and all(effect.after >= effect.before for effect in corrected)


def test_nothing_is_known() -> None:
    with pytest.raises(UsageError, match="analytic-bias needs batch normalisations, or samples"):
        quantize(made(convolutions), scheme="weights-int4", methods="analytic-bias")
    assert not quantize(made(convolutions), scheme="weights-int4").effects
