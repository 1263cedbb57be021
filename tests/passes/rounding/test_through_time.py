"""Gradients through the steps of recurrences, against differences; second moments against weights that are moved."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.passes.rounding.round_weights import Rounding
from graphopt.passes.rounding.through_time import Unrolled, of_input_product, of_state_products
from graphopt.runtime.stacked import Operand, scan, stacks_of
from graphopt.runtime.twofold import Originals, Visit, float_evaluator, run_twofold
from tests.passes.helpers import Build, Draft, made
from tests.passes.quantization.quantised import bounds_of
from tests.passes.rounding.test_round_weights import GRAPHS, rounded, samples_of, sqnr

SAMPLES = 16


def lstm(draft: Draft) -> Value:
    weights = draft.weight(2, 20, 3), draft.weight(2, 20, 5), draft.weight(2, 40)
    return draft.ops(
        "LSTM", draft.input(7, 2, 3), *weights, outputs=1, hidden_size=5, direction="bidirectional"
    )[0]


def gru(draft: Draft) -> Value:
    weights = draft.weight(1, 15, 3), draft.weight(1, 15, 5), draft.weight(1, 30)
    options = {"hidden_size": 5, "direction": "reverse", "linear_before_reset": 1}
    return draft.ops("GRU", draft.input(7, 2, 3), *weights, outputs=1, **options)[0]


def visits(build: Build) -> tuple[list[Visit], Originals]:
    """Of the products and the Scans of a quantised graph."""
    graph: Graph = made(build)
    samples = samples_of(graph, range(SAMPLES))
    layers = layers_of(graph, parse_scheme("int8"))
    originals = insert_quantization(graph, layers, bounds_of(graph, samples))
    found: list[Visit] = []

    def before(visit: Visit) -> None:
        if visit.node.is_op("Scan", "MatMul"):
            found.append(
                Visit(visit.node, visit.quantised, visit.floats, visit.results, dict(visit.environment))
            )

    run_twofold(graph, stacks_of(graph, samples), originals, before)
    return found, originals


@pytest.mark.parametrize("build", [lstm, gru])
def test_gradients_are_those_of_differences(build: Build) -> None:
    found, originals = visits(build)
    visit = next(visit for visit in found if visit.node.is_op("Scan"))
    as_floats = float_evaluator(originals)
    floats = list(visit.floats)
    random = np.random.default_rng(1)

    def states(x: np.ndarray) -> np.ndarray:
        return scan(visit.node, [*floats[:-1], Operand(x, True)], visit.environment, as_floats)[-1].data

    unrolled = Unrolled.of(visit.node, floats, visit.environment, as_floats)
    assert floats[-1] is not None
    x = floats[-1].data
    signs = random.choice([-1.0, 1.0], states(x).shape)
    steps = range(len(unrolled.steps))
    order = list(steps)[::-1] if visit.node.ints("scan_input_directions") == (1,) else list(steps)
    known = unrolled.gradients([signs[:, place] for place in order])
    for _ in range(4):
        direction = random.normal(size=x.shape).astype(np.float32)
        want = (
            signs * (states(x + 0.003 * direction).astype(np.float64) - states(x - 0.003 * direction))
        ).sum() / 0.006
        got = sum(
            (known[step][unrolled.body.inputs[-1]] * direction[:, place]).sum()
            for step, place in zip(steps, order, strict=True)
        )
        assert got == pytest.approx(want, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("build", "directions"), [(lstm, 2), (gru, 1)])
def test_every_product_of_a_recurrence_has_a_matrix_for_each_row(build: Build, directions: int) -> None:
    found, originals = visits(build)
    ahead = [of_input_product(visit, originals) for visit in found if visit.node.is_op("MatMul")]
    behind: list[dict[Node, np.ndarray]] = [
        of_state_products(visit) for visit in found if visit.node.is_op("Scan")
    ]
    assert len(ahead) == len(behind) == directions
    rows = 20 if build is lstm else 15
    for matrix in ahead:
        assert matrix is not None and matrix.shape == (rows, 3, 3)
    for products in behind:
        (matrix,) = products.values()
        assert matrix.shape == (rows, 5, 5)
        assert (np.linalg.eigvalsh(matrix) > -1e-5 * np.abs(matrix).max()).all() and matrix.any()


@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_results_are_no_worse_for_it(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weighted, _ = rounded(GRAPHS["recurrence"], scheme, Rounding())
    monkeypatch.setattr("graphopt.passes.rounding.round_weights._moments_through_time", lambda *arguments: {})
    _, plain, _ = rounded(GRAPHS["recurrence"], scheme, Rounding())
    assert sqnr(graph, weighted) > sqnr(graph, plain) - 0.1
