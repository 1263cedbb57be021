"""Dense layers as two thinner ones: truncated SVD, ranks, budgets, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.onnx_io.write import to_model
from graphopt.passes import catalog
from graphopt.passes.factorization.dense import dense_layers
from graphopt.passes.factorization.ranks import Spectrum, by_budget, by_loss
from graphopt.passes.pruning.refit import nearest_of_rank
from graphopt.pipeline import parse_pipeline
from tests.passes.helpers import Draft, made, outputs_of


def of_rank(draft: Draft, rows: int, columns: int, rank: int) -> np.ndarray:
    return draft.random.normal(size=(rows, rank)) @ draft.random.normal(size=(rank, columns))


def network(draft: Draft) -> Value:
    """A layer of rank 3, one of rank 2 that is transposed, one of full rank."""
    first, second = of_rank(draft, 20, 30, 3), of_rank(draft, 24, 30, 2)
    x = draft.op("MatMul", draft.input(8, 20), draft.const(first))
    x = draft.op("Add", x, draft.weight(30))
    y = draft.op("Gemm", draft.op("Relu", x), draft.const(second), draft.weight(24), transB=1)
    return draft.op("Gemm", y, draft.weight(24, 5), draft.weight(5), beta=0.5)


def rewritten(spec: str) -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    graph = made(network)
    before = outputs_of(graph, {})
    parse_pipeline(spec, catalog()).run(graph)
    to_model(graph)
    return graph, before, outputs_of(graph, {})


def test_weights_of_low_rank_are_exact_in_factors() -> None:
    graph, before, after = rewritten("factorize-dense{energy=0.999999}")
    assert [node.op_type for node in graph.nodes] == (
        ["MatMul", "MatMul", "Add", "Relu", "Gemm", "Gemm", "Gemm"]
    )
    for name, wanted in before.items():
        np.testing.assert_allclose(after[name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    shapes = [value.shape for value in graph.constants if value.rank == 2]
    assert (20, 3) in shapes and (3, 30) in shapes and (30, 2) in shapes and (2, 24) in shapes


def test_a_budget_is_met_where_it_costs_least() -> None:
    layers = dense_layers(made(network))
    assert [(one.inputs, one.outputs, one.rows) for one in layers] == [(20, 30, 8), (30, 24, 8)]
    spectra = [Spectrum.of(layer) for layer in layers]
    ranks = by_budget(spectra, 0.3, 1)
    assert list(ranks.values()) == [3, 2]
    total = sum(layer.parameters for layer in layers)
    for share in (0.9, 0.5, 0.2, 0.1):
        ranks = by_budget(spectra, share, 1)
        held = sum(one.factored(ranks[one]) if one in ranks else one.parameters for one in layers)
        assert held <= share * total
    with pytest.raises(UsageError, match="7.9% are left with rank 1"):
        by_budget(spectra, 0.05, 1)


def test_ranks_that_save_nothing_leave_the_layer() -> None:
    def build(draft: Draft) -> Value:
        return draft.op("MatMul", draft.input(1, 6), draft.weight(6, 6))

    [layer] = dense_layers(made(build))
    spectrum = Spectrum.of(layer)
    assert spectrum.highest == 2 and by_loss([spectrum], 1e-9) == {}
    assert by_loss([spectrum], 0.999) == {layer: 1}


def test_what_varies_counts() -> None:
    """Among all weights of a rank those that lose least on the operands: no rank-1 change of them is better."""
    random = np.random.default_rng(0)
    weights, x = random.normal(size=(1, 5, 8)), random.normal(size=(400, 8)) * np.geomspace(0.01, 1, 8)
    moments = (x.T @ x / 400)[None]

    def lost(other: np.ndarray) -> float:
        return float(np.square(x @ (weights - other)[0].T).mean())

    weighted, plain = (nearest_of_rank(weights, c, 2) for c in (moments, np.eye(8)[None]))
    assert np.linalg.matrix_rank(weighted[0]) == 2 and lost(weighted) < lost(plain)
    for _ in range(50):
        left, right = random.normal(size=(2, 5, 2)), random.normal(size=(2, 8))
        nearby = weighted[0] + 1e-3 * left[0] @ right
        u, s, v = np.linalg.svd(nearby)
        assert lost(((u[:, :2] * s[:2]) @ v[:2])[None]) >= lost(weighted) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("factorize-dense", "nothing says how far to go"),
        ("factorize-dense{energy=0.9 error=0.1}", "two aims at once"),
        ("factorize-dense{energy=90}", "90 is no share of a whole"),
        ("factorize-dense{energy=0.9 exclude=MatMull}", "there is no dense layer 'MatMull'"),
        ("factorize-dense{energy=0.9 exclude=*}", "every dense layer is excluded"),
    ],
)
def test_bad_options(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(spec, catalog()).run(made(network))
    assert told in str(caught.value)
