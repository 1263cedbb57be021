"""Recipes of accuracy methods: their switches, the samples they take, and what they do to a model."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.quantization import quantize
from graphopt.refinement import FEWEST, RECIPES, SAMPLES, refinement, samples_for, switches_of
from graphopt.runtime.reference import run
from tests.passes.helpers import made
from tests.passes.rounding.test_round_weights import convolutions, samples_of, sqnr, transformer


def test_switches() -> None:
    assert switches_of("default") == RECIPES["default"]
    assert switches_of("none") == frozenset()
    assert switches_of("round+bias") == {"round", "bias"}
    with pytest.raises(UsageError, match="there is no method 'rund'.*did you mean round"):
        switches_of("rund")


def test_samples_are_bounded() -> None:
    graph = made(convolutions)
    assert samples_for(graph) == SAMPLES
    assert len(refinement("default", graph, samples_of(graph, range(SAMPLES + 3))).samples) == SAMPLES
    assert not refinement("none", graph, samples_of(graph, range(3))).samples


def test_large_values_leave_room_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.refinement.MEMORY", 1)
    assert samples_for(made(convolutions)) == FEWEST


def test_each_switch_brings_a_model_nearer() -> None:
    graph = made(convolutions)
    samples = samples_of(graph, range(64))
    found = {}
    for methods in ("none", "round", "round+refit+bias", "default"):
        result = quantize(graph, samples, scheme="16x4", methods=methods)
        found[methods] = sqnr(graph, result.graph)
    assert sorted(found, key=found.__getitem__) == list(found), found


def test_schemes_without_ranges_are_left_alone() -> None:
    graph = made(convolutions)
    samples = samples_of(graph, range(4))
    plain = quantize(graph, samples, scheme="dynamic", methods="none").graph
    refined = quantize(graph, samples, scheme="dynamic").graph
    for sample in samples:
        for name, want in run(plain, sample).items():
            assert np.array_equal(run(refined, sample)[name], want)


@pytest.mark.parametrize("methods", ["equalize+default", "migrate+default"])
def test_methods_before_calibration_keep_the_function(methods: str) -> None:
    for build in (convolutions, transformer):
        graph = made(build)
        samples = samples_of(graph, range(24))
        result = quantize(graph, samples, scheme="16x8", methods=methods)
        plain = quantize(graph, samples, scheme="16x8", methods="none")
        assert sqnr(graph, result.graph) > sqnr(graph, plain.graph) - 3
