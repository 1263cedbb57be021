"""Quantised recurrences become one operator, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphopt
from graphopt.ir import QUANT, DType, Graph, Node, Value, verify
from graphopt.passes.inline_branches import InlineBranches
from graphopt.passes.recognize_recurrence import RecognizeRecurrence
from graphopt.passes.recurrences import Recurrence, recurrence_of
from graphopt.pipeline import Pipeline
from graphopt.preparation import legalized, obstacles
from graphopt.runtime.reference import run
from tests.passes.helpers import Draft, made
from tests.passes.quantization.quantised import operators, quantised, samples_of
from tests.passes.quantization.test_recurrent import CASES, STEPS, read_in_16_bits, recurrent


def recognised(graph: Graph) -> Graph:
    copy = graph.clone()
    Pipeline((RecognizeRecurrence(),)).run(copy)
    verify(copy)
    return copy


@pytest.mark.parametrize(("operator", "direction", "first"), CASES)
@pytest.mark.parametrize("optimised", [False, True])
def test_computes_what_the_scan_does(operator: str, direction: str, first: bool, optimised: bool) -> None:
    """The states to the bit on these inputs; the cell within the units in the last place of its functions."""
    graph = quantised(made(recurrent(operator, direction, first=first)))
    found = legalized(graphopt.optimize(graph)) if optimised else recognised(graph)
    assert "Scan" not in operators(found)
    count = 2 if direction == "bidirectional" else 1
    assert sum(node.is_op(operator, domain=QUANT) for node in found.nodes) == count
    limit = 16 * STEPS * np.finfo(np.float32).eps
    for sample in samples_of(graph):
        want, got = run(graph, sample), run(found, sample)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=0, atol=limit)


@pytest.mark.parametrize(("operator", "direction", "output"), [("LSTM", "reverse", 0), ("GRU", "forward", 1)])
def test_states_may_be_kept_as_floats(operator: str, direction: str, output: int) -> None:
    floats, graph = read_in_16_bits(operator, direction, output)
    found = recognised(graph)
    (node,) = (node for node in found.nodes if node.is_op(operator, domain=QUANT))
    assert node.outputs[-1].dtype is DType.float32
    for sample in samples_of(floats):
        (want,), (got,) = run(graph, sample).values(), run(found, sample).values()
        np.testing.assert_allclose(got, want, rtol=0, atol=16 * STEPS * np.finfo(np.float32).eps)


def test_a_recurrence_is_not_unrolled() -> None:
    graph = quantised(made(recurrent("LSTM")))
    Pipeline((InlineBranches(),)).run(graph)
    assert "Scan" in operators(graph)


def step_of(graph: Graph) -> tuple[Node, Graph]:
    scan = next(node for node in graph.nodes if node.op_type == "Scan")
    body = scan.attr("body")
    assert isinstance(body, Graph)
    return scan, body


def only(body: Graph, op_type: str, number: int = 0) -> Node:
    return [node for node in body.nodes if node.op_type == op_type][number]


def other_gate(scan: Node, body: Graph) -> None:
    split = only(body, "Split")
    split.outputs[0].users[0].set_input(0, split.outputs[1])


def other_function(scan: Node, body: Graph) -> None:
    node = only(body, "Tanh")
    made = body.add("Sigmoid", node.inputs, types=[node.output.type], before=node)
    node.output.replace_uses(made.output)


def other_zero_point(scan: Node, body: Graph) -> None:
    node = only(body, "QuantizeLinear")
    assert node.inputs[2] is not None and node.inputs[2].constant is not None
    node.set_input(2, body.add_constant(node.inputs[2].constant + np.uint8(1), "zero"))


def state_before_kept(scan: Node, body: Graph) -> None:
    body.set_output(len(body.outputs) - 1, only(body, "MatMul").inputs[0])  # type: ignore[arg-type]


def other_direction(scan: Node, body: Graph) -> None:
    scan.attributes["scan_output_directions"] = (1,)


def other_axis(scan: Node, body: Graph) -> None:
    scan.attributes["scan_input_axes"] = (1,)


def another_product(scan: Node, body: Graph) -> None:
    node = only(body, "MatMul")
    made = body.add("MatMul", node.inputs, types=[node.output.type], before=node.next)
    node.output.users[0].set_input(0, made.output)


def wide_weights(scan: Node, body: Graph) -> None:
    weights = only(body, "MatMul").inputs[1].producer  # type: ignore[union-attr]
    assert weights is not None and weights.inputs[0] is not None
    data = weights.inputs[0].constant
    assert data is not None and scan.graph is not None
    weights.set_input(0, scan.graph.add_constant(data.astype(np.int16) * 3, "wide"))
    weights.set_input(2, scan.graph.add_constant(np.zeros(data.shape[1], np.int16), "zeros"))


REASONS: tuple[tuple[Callable[[Node, Graph], None], str], ...] = (
    (other_gate, "a step is not that of"),
    (other_function, "a step is not that of"),
    (other_zero_point, "does not quantise the state as it dequantises it"),
    (state_before_kept, "keeps another result"),
    (other_direction, "different directions"),
    (other_axis, "along the first axis"),
    (another_product, "has not one product"),
    (wide_weights, "are not bytes"),
)


@pytest.mark.parametrize(("change", "reason"), REASONS)
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_declines(operator: str, change: Callable[[Node, Graph], None], reason: str) -> None:
    graph = quantised(made(recurrent(operator, first=True)))
    scan, body = step_of(graph)
    assert isinstance(recurrence_of(scan), Recurrence)
    change(scan, body)
    found = recurrence_of(scan)
    assert isinstance(found, str) and reason in found


def test_a_bias_in_other_units_is_none_of_the_sums() -> None:
    graph = quantised(made(recurrent("GRU")))
    scan, body = step_of(graph)
    bias = only(body, "DequantizeLinear", 2)
    assert bias.inputs[1] is not None and bias.inputs[1].constant is not None and bias.inputs[1].rank == 1
    bias.set_input(1, graph.add_constant(bias.inputs[1].constant * np.float32(2), "units"))
    found = recurrence_of(scan)
    assert isinstance(found, str) and "a step is not that of GRU" in found


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_a_sequence_of_any_length_has_a_kernel(operator: str) -> None:
    trips = InlineBranches().trips

    def build(g: Draft) -> Value:
        rows = {"LSTM": 8, "GRU": 6}[operator]
        operands = g.input(trips + 1, 1, 3), g.weight(1, rows, 3), g.weight(1, rows, 2)
        reset = {"linear_before_reset": 1} if operator == "GRU" else {}
        return g.ops(operator, *operands, outputs=1, hidden_size=2, **reset)[0]

    assert not obstacles(legalized(graphopt.optimize(quantised(build))))


def test_wide_activations_stay_a_loop() -> None:
    graph = quantised(made(recurrent("LSTM")), "16x8")
    found = recurrence_of(step_of(graph)[0])
    assert isinstance(found, str) and "rows of bytes" in found
