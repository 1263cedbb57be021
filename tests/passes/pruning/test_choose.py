"""Which channels go, and how many: aims, widths, criteria."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.cost import cost_of_graph
from graphopt.analysis.groups.find import channel_groups
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.onnx_io.write import to_model
from graphopt.passes import catalog
from graphopt.passes.pruning.choose import Aim, by_ratio, choose, widths, without
from graphopt.passes.pruning.importance import CRITERIA, by_weights
from graphopt.passes.pruning.observed import by_activation, by_reconstruction, observe
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.stacked import stacks_of
from tests.passes.helpers import Draft, made


def two_layers(draft: Draft) -> Value:
    """Sixteen hidden channels, of which number 3 is weak, 5 is twice number 4, and 7 is read by nobody."""
    first, second = draft.random.normal(size=(16, 8)), draft.random.normal(size=(5, 16))
    first[3] *= 0.01
    first[5] = 2 * first[4]
    second[:, 7] = 0
    hidden = draft.op("Gemm", draft.input(1, 8), draft.const(first), draft.const(np.zeros(16)), transB=1)
    return draft.op("Gemm", draft.op("Relu", hidden), draft.const(second), draft.weight(5), transB=1)


def stacks(graph: Graph, count: int = 200) -> dict:
    random = np.random.default_rng(1)
    shape = graph.inputs[0].static_shape
    samples = [{"x0": random.normal(size=shape).astype(np.float32)} for _ in range(count)]
    return stacks_of(graph, samples)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_small_weights_go_first(criterion: str) -> None:
    [ranking] = by_weights(channel_groups(made(two_layers)).groups, criterion)
    assert sorted(ranking.order) == list(range(16)) and len(ranking.costs) == 17
    if criterion != "median":
        assert ranking.order[0] == 3
    assert (np.diff(ranking.costs) > 0).all()


def test_what_nobody_reads_and_what_others_can_make_goes_first() -> None:
    graph = made(two_layers)
    groups = channel_groups(graph).groups
    observed = observe(graph, stacks(graph), groups)
    [by_loss], [by_power] = by_reconstruction(groups, observed), by_activation(groups, observed)
    assert by_loss.order[0] == 7 and by_loss.costs[1] < 1e-6
    assert {3, 7} < set(by_loss.order[:3].tolist()) and {4, 5} & set(by_loss.order[:3].tolist())
    assert by_power.order[0] == 3


def test_scales_of_batch_normalisation() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("Conv", draft.input(1, 3, 4, 4), draft.weight(8, 3, 1, 1))
        scale = np.array([5, 1, -6, 2, 3, 4, 7, 8])
        rest = [draft.weight(8), draft.weight(8), draft.weight(8, positive=True)]
        y = draft.op("BatchNormalization", x, draft.const(scale), *rest)
        return draft.op("Conv", y, draft.weight(2, 8, 1, 1))

    [ranking] = by_weights(channel_groups(made(build)).groups, "batchnorm")
    assert ranking.order.tolist() == [1, 3, 4, 5, 0, 2, 6, 7]
    with pytest.raises(UsageError, match="no BatchNormalization"):
        by_weights(channel_groups(made(two_layers)).groups, "batchnorm")


@pytest.mark.parametrize("name", ["macs", "parameters", "size"])
def test_aims_are_met(name: str) -> None:
    graph = made(two_layers)
    rankings = by_weights(channel_groups(graph).groups, "l2")
    for share in (0.9, 0.5, 0.2):
        aim = Aim(name, share)
        narrow = without(graph, choose(graph, rankings, aim, 1))
        one_more = 1 / 16
        assert share - one_more - 0.02 < aim.of(narrow) / aim.of(graph) <= share
    with pytest.raises(UsageError, match=r"cannot be reached: \d+% are left at least"):
        choose(graph, rankings, Aim(name, 0.01), 1)


def test_widths_are_multiples_where_a_group_is_wide() -> None:
    [group] = channel_groups(made(two_layers)).groups
    assert widths(group, 1) == list(range(16, 1, -1))
    assert widths(group, 4) == widths(group, 16) == [16, 12, 8, 4]
    [ranking] = by_weights([group], "l2")
    assert [len(by_ratio([ranking], ratio, 4)[group]) for ratio in (0.01, 0.5, 0.99)] == [0, 8, 12]


def test_the_pass() -> None:
    graph = made(two_layers)
    before = cost_of_graph(graph)
    record = parse_pipeline("prune-channels{macs=0.5 importance=l1 multiple=2}", catalog()).run(graph)
    assert record.statistics().fired["prune-channels"] == 8
    assert cost_of_graph(graph).macs == (before.macs or 0) // 2
    to_model(graph)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("prune-channels", "nothing says how much is to go"),
        ("prune-channels{macs=0.5 ratio=0.5}", "two aims at once"),
        ("prune-channels{ratio=1.5}", "1.5 is no share of a whole"),
        ("prune-channels{ratio=0.5 importance=l3}", "one of batchnorm, l1, l2, median"),
        ("prune-channels{ratio=0.5 exclude=Gemn}", "no channels belong to a node 'Gemn'"),
        ("prune-channels{ratio=0.5 exclude=*}", "every group is excluded"),
        ("prune-channels{ratio=0.5 multiple=0}", "0 channels make no vector"),
    ],
)
def test_bad_options(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(spec, catalog()).run(made(two_layers))
    assert told in str(caught.value)


def test_nothing_to_prune_is_told_with_the_reason() -> None:
    def build(draft: Draft) -> Value:
        return draft.op("Gemm", draft.input(1, 8), draft.weight(8, 4))

    with pytest.raises(UsageError, match="is an output of the model"):
        parse_pipeline("prune-channels{ratio=0.5}", catalog()).run(made(build))
