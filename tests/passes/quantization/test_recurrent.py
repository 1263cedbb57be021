"""LSTM and GRU as products of integers."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Graph, Value, verify
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.passes.quantization.weights import weight_parameters
from graphopt.passes.quantize import insert_quantization
from graphopt.runtime.reference import run
from tests.passes.helpers import Draft, made
from tests.passes.quantization.quantised import bounds_of, operators, quantised, samples_of, sqnr

GATES = {"LSTM": 4, "GRU": 3}
STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4


def recurrent(operator: str, direction: str = "forward", *, first: bool = False, outputs: int = 3):  # type: ignore[no-untyped-def]
    """The node, with all its outputs; `first` gives it states to begin with."""

    def build(g: Draft) -> Value:
        count = 2 if direction == "bidirectional" else 1
        rows = GATES[operator] * HIDDEN
        x = g.input(STEPS, BATCH, WIDTH)
        operands: list[Value | None] = [x, g.weight(count, rows, WIDTH), g.weight(count, rows, HIDDEN)]
        operands.append(g.weight(count, 2 * rows))
        if first:
            operands += [None, g.input(count, BATCH, HIDDEN)]
            if operator == "LSTM":
                operands.append(g.input(count, BATCH, HIDDEN))
        reset = {"linear_before_reset": 1} if operator == "GRU" else {}
        produced = min(outputs, 3 if operator == "LSTM" else 2)
        attributes = {"hidden_size": HIDDEN, "direction": direction, **reset}
        results = g.ops(operator, *operands, outputs=produced, name="cell", **attributes)
        g.output(*results)
        return results[0]

    return build


CASES = [
    ("LSTM", "forward", False),
    ("LSTM", "reverse", True),
    ("LSTM", "bidirectional", True),
    ("GRU", "forward", True),
    ("GRU", "bidirectional", False),
]


@pytest.mark.parametrize(("operator", "direction", "first"), CASES)
def test_computes_what_the_operator_does(operator: str, direction: str, first: bool) -> None:
    """With 16 bits for activations, all that is lost is in the weights: the operator on those comes within a few
    steps of 2^-15 at each of the few steps of time."""
    graph = made(recurrent(operator, direction, first=first))
    small = quantised(graph, "16x8")
    rounded = graph.clone()
    node = rounded.node("cell")
    scheme = parse_scheme("16x8")
    for index in (1, 2):
        value = node.inputs[index]
        assert value is not None and value.constant is not None
        parts = [weight_parameters(node, rounded.add_constant(part[None]), scheme) for part in value.constant]
        data = [
            p.dequantised(p.quantised(part[None]))[0] for p, part in zip(parts, value.constant, strict=True)
        ]
        node.set_input(index, rounded.add_constant(np.stack(data)))
    for sample in samples_of(graph):
        want, got = run(rounded, sample), run(small, sample)
        assert list(got) == list(want)
        for name in want:
            assert got[name].shape == want[name].shape
            np.testing.assert_allclose(got[name], want[name], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("operator", "direction", "first"), CASES)
def test_bytes_lose_little(operator: str, direction: str, first: bool) -> None:
    build = recurrent(operator, direction, first=first)
    assert sqnr(build) > 28
    assert "Scan" in operators(quantised(build))


def test_the_state_goes_on_as_integers() -> None:
    """What reads the states of all steps reads the integers that the body made."""

    def build(g: Draft) -> Value:
        recurrent("LSTM", outputs=1)(g)
        rows = g.graph.outputs[0]
        flat = g.op("Reshape", rows, g.ints(STEPS, BATCH, HIDDEN))
        g.graph.set_output(0, g.op("MatMul", flat, g.weight(HIDDEN, 3)))
        return rows

    graph = quantised(build)
    product = next(node for node in graph.nodes if node.op_type == "MatMul" and node.output in graph.outputs)
    value = product.inputs[0].producer.inputs[0]  # type: ignore[union-attr]
    passed = []
    while value.producer.op_type != "Scan":  # type: ignore[union-attr]
        passed.append(value.producer.op_type)  # type: ignore[union-attr]
        value = value.producer.inputs[0]  # type: ignore[union-attr]
    assert passed == ["Reshape", "Unsqueeze"]
    assert operators(graph).count("QuantizeLinear") == 1


def read_in_16_bits(operator: str, direction: str, output: int) -> tuple[Graph, Graph]:
    """A product behind the states of all steps (0) or the last ones (1), and the same with 16 bits for these."""

    def build(g: Draft) -> Value:
        recurrent(operator, direction, outputs=2)(g)
        states, count = g.graph.outputs[output], 2 if direction == "bidirectional" else 1
        rows = g.op("Reshape", states, g.ints(-1 if output == 0 else count, BATCH, HIDDEN))
        g.graph.clear_outputs()
        return g.op("MatMul", rows, g.weight(HIDDEN, 3), name="product")

    floats = made(build)
    layers = layers_of(floats, parse_scheme("int8"))
    layers[floats.node("product")] = parse_scheme("16x8")
    graph = floats.clone()
    chosen = {graph.node(node.name): scheme for node, scheme in layers.items()}
    insert_quantization(graph, chosen, bounds_of(floats, samples_of(floats)))
    verify(graph)
    return floats, graph


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize(("direction", "output"), [("reverse", 0), ("bidirectional", 1), ("forward", 1)])
def test_wider_integers_are_made_of_the_floats_of_each_step(
    operator: str, direction: str, output: int
) -> None:
    """No byte is between the states and a product that reads 16 bits; each step goes on with bytes."""
    floats, graph = read_in_16_bits(operator, direction, output)
    integers = graph.node("product").inputs[0].producer.inputs[0]  # type: ignore[union-attr]
    assert integers is not None and integers.dtype is DType.int16
    scans = [node for node in graph.nodes if node.op_type == "Scan"]
    assert {node.outputs[0].dtype for node in scans} == {DType.uint8}
    assert {node.outputs[-1].dtype for node in scans} == {DType.float32}
    for sample in samples_of(floats):
        (want,), (got,) = run(floats, sample).values(), run(graph, sample).values()
        assert got.shape == want.shape
        assert np.square(got - want).sum() < 10**-2.8 * np.square(want).sum()


def test_weights_alone_stay_in_the_operator() -> None:
    for scheme, least in (("weights-int8", 40), ("weights-int4", 12), ("weights-float16", 55)):
        build = recurrent("LSTM", "bidirectional")
        assert "LSTM" in operators(quantised(build, scheme))
        assert sqnr(build, scheme) > least


def peepholes(g: Draft) -> Value:
    x, rows = g.input(STEPS, BATCH, WIDTH), 4 * HIDDEN
    operands = [
        x,
        g.weight(1, rows, WIDTH),
        g.weight(1, rows, HIDDEN),
        None,
        None,
        None,
        None,
        g.weight(1, 3 * HIDDEN),
    ]
    return g.ops("LSTM", *operands, outputs=1, hidden_size=HIDDEN)[0]


def reset_first(g: Draft) -> Value:
    x, rows = g.input(STEPS, BATCH, WIDTH), 3 * HIDDEN
    return g.ops(
        "GRU", x, g.weight(1, rows, WIDTH), g.weight(1, rows, HIDDEN), outputs=1, hidden_size=HIDDEN
    )[0]


@pytest.mark.parametrize("build", [peepholes, reset_first])
def test_what_has_no_integer_form_stays(build) -> None:  # type: ignore[no-untyped-def]
    graph: Graph = made(build)
    assert operators(quantised(graph)) == operators(graph)
