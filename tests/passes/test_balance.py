"""Channels scaled to the range of their activation: the same function, less noise from rounding, ranges that follow."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.analysis.ranges import Range, Ranges, model_digest
from graphopt.ir import Graph, Value
from graphopt.ir.text import to_text
from graphopt.passes.balance import Seen, balance, balancing, channels_of, scale_for
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.refinement import RECIPES, refinement
from graphopt.runtime.reference import run
from graphopt.runtime.stacked import stacks_of
from tests.passes.helpers import Build, Draft, made
from tests.passes.rounding.test_round_weights import samples_of, sqnr

SPREAD = np.array([1, 1 / 3, 1 / 10, 1 / 30, 1 / 100, 1 / 300])
"""How large the channels of the first layer are; what reads them makes up for it."""


def by_channel(g: Draft, factor: np.ndarray, *shape: int) -> Value:
    return g.const(g.random.normal(size=shape) * factor.reshape(-1, 1, 1, 1))


def depthwise(g: Draft) -> Value:
    x = g.op("Relu", g.op("Conv", g.input(1, 3, 7, 6), by_channel(g, SPREAD, 6, 3, 1, 1)))
    x = g.op("MaxPool", x, kernel_shape=(2, 2))
    return g.op("Conv", x, by_channel(g, 1 / SPREAD, 6, 1, 3, 3), g.weight(6), group=6, pads=(1, 1, 1, 1))


def even(g: Draft) -> Value:
    x = g.op(
        "Relu",
        g.op("Conv", g.input(1, 3, 7, 6), g.const(np.tile(g.random.normal(size=(1, 3, 1, 1)), (6, 1, 1, 1)))),
    )
    return g.op("Conv", x, g.weight(6, 1, 3, 3), group=6)


def dense(g: Draft) -> Value:
    x = g.op("Relu", g.op("Conv", g.input(1, 3, 7, 6), by_channel(g, SPREAD, 6, 3, 1, 1)))
    return g.op("Conv", x, g.weight(5, 6, 3, 3))


def clipped(g: Draft) -> Value:
    x = g.op("Conv", g.input(1, 3, 7, 6), by_channel(g, SPREAD, 6, 3, 1, 1))
    return g.op("Conv", g.op("Clip", x, g.const(0), g.const(6)), g.weight(6, 1, 3, 3), group=6)


def _seen_ranges(graph: Graph, count: int = 24) -> Ranges:
    """Of every value, by channel."""
    tapped = graph.clone()
    for number, value in enumerate([n.output for n in tapped.nodes]):
        tapped.add_output(value, f"tap{number}")
    arrays = [run(tapped, sample) for sample in samples_of(graph, range(count))]
    found = {}
    for number, node in enumerate(graph.nodes):
        stack = np.stack([made[f"tap{number}"] for made in arrays])
        low, high = stack.min((0, 1, 3, 4)), stack.max((0, 1, 3, 4))
        found[node.output.name] = Range(low.astype(np.float64), high.astype(np.float64), 1)
    return Ranges(found, "min-max", count, model_digest(graph))


def test_channels_become_alike_and_ranges_follow() -> None:
    graph, samples = made(depthwise), samples_of(made(depthwise), range(24))
    before, ranges = [run(graph, sample) for sample in samples], _seen_ranges(graph)
    scales = balancing(graph, stacks_of(graph, samples))
    (pair,) = scales
    assert channels_of(scales) == dict.fromkeys((v.name for v in pair.chain), 1) and len(pair.chain) == 3
    spread = ranges[pair.between.name].magnitude
    balanced = balance(graph, scales, ranges)
    for sample, want in zip(samples, before, strict=True):
        (a,), (b,) = want.values(), run(graph, sample).values()
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
    now = _seen_ranges(graph)
    balanced.check(graph)
    for value in pair.chain:
        for end in ("low", "high"):
            want, told = (getattr(r[value.name], end) for r in (now, balanced))
            np.testing.assert_allclose(told, want, rtol=1e-5, atol=1e-5)
    left = now[pair.between.name].magnitude
    assert np.ptp(np.log(left)) == pytest.approx(np.ptp(np.log(spread)) / 2, rel=1e-3)


@pytest.mark.parametrize("build", [even, dense, clipped])
def test_stays(build: Build) -> None:
    graph = made(build)
    assert not balancing(graph, stacks_of(graph, samples_of(graph, range(24))))


def test_no_channel_leaves_the_range_at_either_end() -> None:
    layer = next(n for n in made(depthwise).nodes if n.int("group", 1) > 1)
    low, high = np.array([-4, -1, 0, 0, 0, -0.5]), np.array([1, 9, 0.25, 0, 9, 0])
    scale = scale_for(layer, Seen(low, high))
    np.testing.assert_allclose(scale, np.sqrt([1, 1, 36, 1, 1, 8]))
    assert (low * scale).min() == low.min() and (high * scale).max() == high.max()
    assert scale_for(layer, Seen(np.zeros(6), np.zeros(6))) is None


@pytest.mark.parametrize("scheme", ["int8{per_channel=false}", "weights-int8"])
def test_schemes_that_gain_nothing_are_left_alone(scheme: str) -> None:
    graph = made(depthwise)
    given = refinement("balance", graph, samples_of(graph, range(24)))
    assert given.balancing(graph, parse_scheme("int8"))
    assert not given.balancing(graph, parse_scheme(scheme))


def test_quantised_models_come_nearer() -> None:
    graph, samples = made(depthwise), samples_of(made(depthwise), range(24))
    without = "+".join(sorted(RECIPES["default"] - {"balance"}))
    plain, balanced = (
        sqnr(graph, graphopt.quantize(graph, samples, methods=methods).graph)
        for methods in (without, "default")
    )
    assert balanced > plain + 6


def test_ranges_may_be_used_again() -> None:
    """They are those of the model as it was given."""
    graph, samples = made(depthwise), samples_of(made(depthwise), range(24))
    first = graphopt.quantize(graph, samples)
    again = graphopt.quantize(graph, samples, ranges=first.ranges)
    assert to_text(first.graph, weights="digest") == to_text(again.graph, weights="digest")
    graphopt.quantize(graph, ranges=first.ranges)
    whole = graphopt.calibrate(graphopt.optimize(graph, graphopt.passes.QUANTIZABLE), samples)
    graphopt.quantize(graph, samples, ranges=whole)
