"""Heads and inner widths alone leave a graph; the passes' options; the groups' kinds."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.analysis.cost import cost_of_graph
from graphopt.analysis.groups.find import channel_groups
from graphopt.analysis.groups.kinds import kind_of
from graphopt.errors import UsageError
from graphopt.ir import Graph
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from tests.passes.pruning.networks import HEADS, random_network


def sizes(graph: Graph) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for group in channel_groups(graph).groups:
        found.setdefault(kind_of(group), []).append(group.size)
    return found


@pytest.mark.parametrize("head", ["attention", "separate_attention", "fused_attention"])
def test_half_of_heads_and_inner_widths(head: str) -> None:
    graph = random_network(["residual"], head, 3)
    before = sizes(graph)
    parse_pipeline("prune-heads{ratio=0.5}", catalog()).run(graph)
    after = sizes(graph)
    assert after["channels"] == before["channels"]
    assert sum(after.get("heads", [])) < sum(before["heads"])
    assert sum(after.get("inner", [])) <= sum(before.get("inner", []))


@pytest.mark.parametrize(("head", "kinds"), [("flat", {"inner"}), ("recurrent", set())])
def test_networks_without_attention_have_no_heads(head: str, kinds: set[str]) -> None:
    assert head in HEADS and set(sizes(random_network(["excited"], head, 1))) - {"channels"} == kinds


def test_one_kind_alone() -> None:
    graph = random_network([], "separate_attention", 0)
    before = sizes(graph)
    parse_pipeline("prune-heads{ratio=0.4 only=inner}", catalog()).run(graph)
    assert sizes(graph)["heads"] == before["heads"] and sizes(graph)["inner"] == [3]


def test_heads_are_fitted_to_samples() -> None:
    graph = random_network([], "separate_attention", 0)
    random = np.random.default_rng(0)
    samples = [{"x0": random.normal(size=(1, 4, 4, 4)).astype(np.float32)} for _ in range(64)]
    result = graphopt.prune(graph, samples, parameters=0.8, only=["heads", "inner"], multiple=1)
    before, after = cost_of_graph(graph).parameters, cost_of_graph(result.graph).parameters
    assert after <= 0.8 * before and result.fits
    assert {width.before for width in result.widths} == {3, 5}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("prune-heads", "nothing says how much is to go"),
        ("prune-heads{ratio=0.5 only=head}", "did you mean heads"),
        ("prune-heads{ratio=0.5}", "no group is 'heads' or 'inner'"),
    ],
)
def test_bad_options(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(spec, catalog()).run(random_network([], "recurrent", 0))
    assert told in str(caught.value)
