"""Layers behind removed channels make up for them, as far as least squares can."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.groups.find import Group, channel_groups
from graphopt.ir import Graph, Value
from graphopt.passes.pruning.choose import without
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.pruning.refit import Fit, refit
from graphopt.passes.pruning.shrink import removed_indices
from graphopt.runtime.reference import run
from graphopt.runtime.stacked import stacks_of
from tests.passes.helpers import Draft, made


def samples(graph: Graph, count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    shape = graph.inputs[0].static_shape
    return [{"x0": random.normal(size=shape).astype(np.float32)} for _ in range(count)]


def error(whole: Graph, narrow: Graph) -> float:
    """Root mean square of the difference over that of the outputs, on samples of their own."""
    fresh = samples(whole, 300)[200:]
    a, b = (np.stack([next(iter(run(graph, x).values())) for x in fresh]) for graph in (whole, narrow))
    return float(np.sqrt(np.square(a - b).mean() / np.square(a).mean()))


def pruned(
    graph: Graph, removal: dict[Group, np.ndarray], count: int = 200, **options: bool
) -> tuple[float, float, list[Fit]]:
    """The error before and after fitting."""
    narrow = without(graph, removal)
    before = error(graph, narrow)
    stacks = stacks_of(graph, samples(graph, count))
    fits = refit(narrow, graph, Kept(removed_indices(removal)), stacks, **options)
    return before, error(graph, narrow), fits


def convolutions(draft: Draft) -> Value:
    """Channels 4 to 7 are sums of the first four; a depthwise layer and a residual one follow."""
    first = draft.random.normal(size=(8, 3, 1, 1))
    first[4:] = first[:4] + first[[1, 2, 3, 0]]
    x = draft.op("Conv", draft.input(1, 3, 6, 6), draft.const(first))
    y = draft.op("Conv", x, draft.weight(6, 8, 3, 3), draft.weight(6), pads=(1, 1, 1, 1))
    z = draft.op("Conv", draft.op("Relu", y), draft.weight(6, 1, 3, 3), pads=(1, 1, 1, 1), group=6)
    mean = draft.op("GlobalAveragePool", draft.op("Add", y, z))
    return draft.op("Gemm", draft.op("Flatten", mean), draft.weight(6, 4))


def test_channels_that_others_can_make_cost_nothing() -> None:
    graph = made(convolutions)
    group = channel_groups(graph).groups[0]
    before, after, fits = pruned(graph, {group: np.arange(4, 8)})
    assert before > 0.3 and after < 2e-3
    assert all(fit.after >= fit.before for fit in fits)


def test_others_cost_less_than_without_fitting() -> None:
    graph = made(convolutions)
    removal = {group: np.arange(1, 3) for group in channel_groups(graph).groups}
    before, after, _ = pruned(graph, removal)
    _, by_bias, _ = pruned(graph, removal, weights=False)
    assert after < by_bias < before and after < 0.6 * before


def test_a_matrix_product_has_its_bias_behind_it() -> None:
    def build(draft: Draft) -> Value:
        x = draft.input(1, 7, 6)
        hidden = draft.op("Add", draft.op("MatMul", x, draft.weight(6, 12)), draft.weight(12))
        y = draft.op("MatMul", draft.op("Relu", hidden), draft.weight(12, 6))
        return draft.op("Add", x, draft.op("Add", draft.weight(6), y))

    graph = made(build)
    [group] = channel_groups(graph).groups
    before, after, [_, second] = pruned(graph, {group: np.arange(3)}, 100)
    assert after < 0.6 * before and not second.few


def test_few_samples_leave_weights_as_they_were() -> None:
    def build(draft: Draft) -> Value:
        hidden = draft.op("Gemm", draft.input(1, 6), draft.weight(6, 40), draft.weight(40))
        return draft.op("Gemm", draft.op("Relu", hidden), draft.weight(40, 3), draft.weight(3))

    graph = made(build)
    [group] = channel_groups(graph).groups
    before, after, fits = pruned(graph, {group: np.arange(20)}, 8)
    assert [fit.few for fit in fits] == [False, True] and after < 1.2 * before


def test_nothing_removed_changes_nothing() -> None:
    graph = made(convolutions)
    before, after, _ = pruned(graph, {})
    assert before == 0 and after < 1e-6
