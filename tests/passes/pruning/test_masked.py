"""A pruned graph computes what the whole one does with the removed channels made zero: exactly, on random networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis.groups.find import Group, channel_groups
from graphopt.analysis.groups.kinds import kind_of
from graphopt.ir import Graph
from graphopt.ir.verify import verify
from graphopt.onnx_io.write import to_model
from graphopt.passes import UNFUSED, catalog
from graphopt.passes.pruning.shrink import masked, shrink
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.pruning.networks import HEADS, LAYERS, random_network


def random_removal(graph: Graph, random: np.random.Generator) -> dict[Group, np.ndarray]:
    """Of each group any number of units but all."""
    found = {}
    for group in channel_groups(graph).groups:
        if not group.coupled:
            count = int(random.integers(0, group.size))
            found[group] = np.sort(random.choice(group.size, count, replace=False))
    return found


def check(layers: list[str], head: str, seed: int, pipeline: str = "") -> None:
    random = np.random.default_rng(seed)
    graph = random_network(layers, head, seed)
    if pipeline:
        parse_pipeline(pipeline, catalog()).run(graph)
    x = {"x0": random.integers(-3, 4, graph.inputs[0].static_shape).astype(np.float32)}
    whole = graph.clone()
    masked(whole, random_removal(whole, np.random.default_rng(seed)))
    shrink(graph, random_removal(graph, np.random.default_rng(seed)))
    verify(graph)
    to_model(graph)
    for wanted, got in zip(run(whole, x).values(), run(graph, x).values(), strict=True):
        np.testing.assert_array_equal(wanted, got)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    layers=st.lists(st.sampled_from(sorted(LAYERS)), max_size=4),
    head=st.sampled_from(sorted(HEADS)),
    seed=st.integers(0, 1000),
)
def test_random_networks(layers: list[str], head: str, seed: int) -> None:
    check(layers, head, seed)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(layer: str) -> None:
    check([layer, "plain"], "flat", 0)


@pytest.mark.parametrize("head", HEADS)
def test_every_head(head: str) -> None:
    check(["residual"], head, 0)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    layers=st.lists(st.sampled_from(sorted(LAYERS)), max_size=2),
    head=st.sampled_from(["attention", "separate_attention", "fused_attention"]),
    seed=st.integers(0, 1000),
)
def test_heads_of_optimised_networks(layers: list[str], head: str, seed: int) -> None:
    """Attention recognised, its products merged into one."""
    check(layers, head, seed, UNFUSED)


def test_separate_products_become_one_of_attention() -> None:
    graph = random_network([], "separate_attention", 0)
    assert sorted(kind_of(group) for group in channel_groups(graph).groups) == ["channels", "heads", "inner"]
    parse_pipeline(UNFUSED, catalog()).run(graph)
    assert [node.op_type for node in graph.nodes].count("Attention") == 1
    kinds = [kind_of(group) for group in channel_groups(graph).groups]
    assert sorted(kinds) == ["channels", "heads", "inner"]
