"""Inner values of a compiled model, against the numpy reference."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import graphopt
from graphopt import passes, taps
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.ir.compare import equal
from graphopt.runtime.reference import random_inputs, run
from graphopt.taps import TappedModel, tapped
from tests.cli.conftest import network
from tests.passes.helpers import Draft, made


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graphopt.optimize(graphopt.load(network()), passes.QUANTIZABLE)


def expected(graph: Graph, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value that is computed, by the numpy reference."""
    copy = graph.clone()
    for value in [output for node in copy.nodes for output in node.outputs]:
        copy.add_output(value, f"value {value.name}")
    return {
        name.removeprefix("value "): array
        for name, array in run(copy, sample).items()
        if name.startswith("value ")
    }


def test_inner_values_are_those_of_the_reference(graph: Graph) -> None:
    names = [value.name for value in graph.values() if not value.is_constant]
    model = TappedModel(graph, names)
    assert model.note == ""
    for seed in range(2):
        sample = random_inputs(graph, seed)
        values = model(sample)
        assert sorted(values) == sorted(names)
        assert values["x"] is sample["x"]
        for name, want in expected(graph, sample).items():
            limit = 128 * np.finfo(np.float32).eps * np.abs(want).max()
            assert values[name].shape == want.shape and np.abs(values[name] - want).max() <= limit


LONG = 1 << 18
"""Floats of one value: 1 MiB."""


def chain(g: Draft) -> Value:
    x = g.input(1, LONG)
    for _ in range(8):
        x = g.op("Mul", x, g.const(1.5))
    return x


@pytest.mark.parametrize("part_bytes", [1, 3 << 20, 1 << 28])
def test_values_that_take_much_memory_are_made_in_parts(part_bytes: int) -> None:
    """Eight values of a mebibyte, as many at once as are allowed; one at least."""
    graph = made(chain)
    names = [node.output.name for node in graph.nodes]
    model = TappedModel(graph, [*reversed(names), "x0"], part_bytes=part_bytes)
    sample = {"x0": np.linspace(-1, 1, LONG, dtype=np.float32).reshape(1, LONG)}
    whole = model(sample)
    for power, name in enumerate(names, 1):
        np.testing.assert_allclose(whole[name], sample["x0"] * np.float32(1.5) ** power, rtol=1e-6)
    del whole
    tracemalloc.start()
    seen = [name for part in model.parts(sample) for name in part]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(seen) == sorted([*names, "x0"])
    held = min(max(part_bytes, 1 << 20), 8 << 20)
    assert peak < 2 * held + (1 << 19)


def test_the_graph_stays_as_it_is(graph: Graph) -> None:
    before = graph.clone()
    TappedModel(graph, [next(iter(graph.nodes)).output.name])
    assert equal(graph, before)


def test_a_graph_that_cannot_be_compiled_runs_by_reference() -> None:
    """The shape of NonZero's result depends on data."""
    graph = made(nonzero)
    model = TappedModel(graph, [graph.outputs[0].name])
    assert "the numpy reference runs it: host cannot run node" in model.note
    x = np.array([0, 2, -1, 0], np.float32)
    assert model({"x0": x})[graph.outputs[0].name].tolist() == [2, -1]


def nonzero(g: Draft) -> Value:
    x = g.input(4)
    found = g.op("NonZero", g.op("Relu", g.op("Abs", x)))
    return g.op("Gather", x, g.op("Squeeze", found, g.ints(0)))


def test_a_model_is_compiled_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(graph.nodes)).output.name
    first = tapped(graph, [name])
    monkeypatch.setattr(taps, "compile", None)
    assert tapped(graph.clone(), [name, name]) is first


def test_values_that_cannot_be_seen(graph: Graph) -> None:
    constant = graph.constants[0].name
    with pytest.raises(UsageError, match=f"value '{constant}': it is a constant"):
        TappedModel(graph, [constant])
    with pytest.raises(UsageError, match="the graph has no value 'nonsense'"):
        TappedModel(graph, ["nonsense"])
