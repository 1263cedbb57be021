"""Layers tried one by one, and schemes chosen within a bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.mixed_precision import after, bit_operations, ladder, raises
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.preparation import legalized
from graphopt.runtime.reference import run
from graphopt.sensitivity import Trials, half_of_the_noise, noise_share
from graphopt.targets.device import list_targets, load_target
from tests.passes.helpers import Draft, made
from tests.passes.quantization.quantised import bounds_of, quantised, samples_of
from tests.passes.quantization.test_placement import conv, residual

INT8, INT4, WIDE = (parse_scheme(name) for name in ("int8", "int4", "16x8"))


def uneven(g: Draft) -> Value:
    """One layer of three has a weight a thousand times as large as the others of its channel."""
    x = g.op("Relu", conv(g, g.input(1, 4, 6, 6), 6))
    weights = g.random.normal(size=(6, 6, 1, 1))
    weights[:, 0] *= 1000
    y = g.op("Relu", g.op("Conv", x, g.const(weights), name="spoilt"))
    return conv(g, y, 4)


@pytest.fixture(scope="module")
def trials() -> Trials:
    graph = made(uneven)
    samples = samples_of(graph)
    layers = layers_of(graph, INT8)
    return Trials(graph, list(layers), [INT4, INT8, WIDE], bounds_of(graph, samples), samples)


def answers(graph: Graph) -> list[list[np.ndarray]]:
    return [list(run(graph, sample).values()) for sample in samples_of(graph)]


def test_a_trial_is_what_the_quantised_graph_computes(trials: Trials) -> None:
    """Of all layers at once. The graph rounds biases too, and sums near a tie to the other side: a tenth of a dB."""
    graph = made(uneven)
    quantised = graph.clone()
    bounds = bounds_of(graph, samples_of(graph))
    insert_quantization(quantised, layers_of(quantised, INT8), bounds)
    real = noise_share(answers(graph), answers(quantised))
    tried = trials.noise(dict.fromkeys(trials.layers, INT8))
    assert abs(10 * np.log10(tried / real)) < 1
    assert trials.noise({}) < 1e-12


def test_the_layer_that_loses_most_is_found(trials: Trials) -> None:
    for scheme in (INT8, INT4):
        harms = trials.harms(scheme)
        assert [harm.noise for harm in harms] == sorted((harm.noise for harm in harms), reverse=True)
        assert sum(harm.noise for harm in harms) / trials.noise(dict.fromkeys(trials.layers, scheme)) < 4
    assert trials.harms(INT4)[0].sqnr < trials.harms(INT8)[0].sqnr < trials.harms(WIDE)[0].sqnr
    worst = half_of_the_noise(trials.harms(INT8))
    assert 1 <= len(worst) < 3 and worst[0].noise == trials.harms(INT8)[0].noise


def test_every_raise_leads_to_float(trials: Trials) -> None:
    noises = {s: {harm.layer: harm.noise for harm in trials.harms(s)} for s in trials.schemes}
    steps = raises(trials.layers, trials.schemes, noises)
    assert after(steps, 0, trials.layers, INT4) == dict.fromkeys(trials.layers, INT4)
    assert after(steps, len(steps), trials.layers, INT4) == {}
    costs = [
        sum(
            bit_operations(layer, after(steps, count, trials.layers, INT4).get(layer))
            for layer in trials.layers
        )
        for count in range(len(steps) + 1)
    ]
    assert costs == sorted(costs)


def test_what_a_target_does_not_sum_as_integers_costs_as_much_as_float(trials: Trials) -> None:
    layer, target = trials.layers[0], load_target("cortex-m4")
    costs = [bit_operations(layer, scheme, target) for scheme in (INT4, INT8, WIDE, None)]
    assert costs[0] < costs[1] < costs[2] == costs[3]
    assert bit_operations(layer, WIDE) < bit_operations(layer, None)
    assert bit_operations(layer, parse_scheme("weights-int4"), target) < costs[3]


@pytest.mark.parametrize("name", list_targets())
def test_the_table_of_a_target_is_true(name: str) -> None:
    """What it lists is lowered to sums of integers."""
    target = load_target(name)
    assert target.integer_products
    for product in target.integer_products:
        activations, weights = product.split(" x ")
        scheme = parse_scheme(f"int8{{activations={activations} weights={weights}}}")
        assert scheme.product == product
        lowered = legalized(quantised(residual, scheme))
        assert not {"Conv", "Gemm", "MatMul"} & {node.op_type for node in lowered.nodes if not node.domain}


def test_a_slow_scheme_is_told() -> None:
    graph = made(residual)
    for scheme, told in (("16x8", True), ("int8", False), ("weights-int8", False)):
        result = graphopt.quantize(
            graph, samples_of(graph), scheme=scheme, target="cortex-m4", methods="none"
        )
        assert any("cortex-m4 does not sum" in note for note in result.report.notes) == told


def test_ladders() -> None:
    names = {
        name: [str(s) for s in ladder(parse_scheme(name))]
        for name in ("int8", "int4", "weights-int4", "16x8")
    }
    assert names == {
        "int8": ["int8", "16x8"],
        "int4": ["int4", "int8", "16x8"],
        "weights-int4": ["weights-int4", "weights-int8"],
        "16x8": ["16x8"],
    }


@pytest.mark.parametrize("max_loss", [0.3, 0.02, 0.004, 0.0])
def test_the_bound_is_kept(max_loss: float) -> None:
    graph = made(uneven)
    samples = samples_of(graph)
    result = graphopt.quantize(graph, samples, scheme="int4", max_loss=max_loss)
    want = [list(run(graph, sample).values()) for sample in samples]
    got = [list(run(result.graph, sample).values()) for sample in samples]
    assert result.loss is not None and result.loss <= max_loss
    assert np.sqrt(noise_share(want, got)) <= max_loss * 1.05 + 1e-6
    if max_loss == 0.3:
        assert {str(layer.scheme) for layer in result.report.layers} == {"int4"}
    if max_loss == 0:
        assert all(
            layer.scheme is None and "loses too much" in layer.reason for layer in result.report.layers
        )


def test_a_metric_bounds_the_loss() -> None:
    """Labels are the float model's own answers, so that the loss is the share of answers that change."""
    graph = made(residual)
    random = np.random.default_rng(5)
    data = random.normal(size=(64, 3, 6, 6)).astype(np.float32)
    labels = np.array([next(iter(run(graph, {"x0": row[None]}).values())).argmax() for row in data])
    result = graphopt.quantize(graph, data, scheme="int4", max_loss=0.02, labels=labels, explain=True)
    assert result.loss is not None and result.loss <= 0.02
    answers = [next(iter(run(result.graph, {"x0": row[None]}).values())).argmax() for row in data]
    assert np.mean(np.array(answers) != labels) <= 0.02 + 1e-9
    assert all(harm.loss is not None for harm in result.harms)


def test_a_function_that_raises_is_told(tmp_path: Path) -> None:
    graph = made(residual)

    def judge(run: object) -> float:
        raise RuntimeError("no such table")

    with pytest.raises(UsageError, match="no such table"):
        graphopt.quantize(graph, samples_of(graph), max_loss=0.1, evaluate=judge)


def test_labels_and_a_function_are_not_taken_together() -> None:
    graph = made(residual)
    with pytest.raises(UsageError, match="labels and a function.*give one of them"):
        graphopt.quantize(graph, samples_of(graph), labels=np.zeros(8, np.int64), evaluate=lambda run: 1.0)


def test_labels_must_match_the_samples() -> None:
    graph = made(residual)
    with pytest.raises(UsageError, match="labels"):
        graphopt.quantize(graph, samples_of(graph), max_loss=0.1, labels=np.zeros(3, np.int64))
