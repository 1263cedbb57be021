"""What patterns match, what they bind, and what they say when they do not."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import IRError
from graphopt.ir import DType, Graph, TensorType, Value
from graphopt.rewrite import Any, Const, Either, Match, Op, Scalar
from graphopt.rewrite.match import Misses
from graphopt.rewrite.pattern import find
from tests.passes.helpers import Draft


def match(pattern: Op, value: Value) -> Match | str:
    """The match at the producer of `value`, or the reason of the closest miss."""
    misses = Misses()
    assert value.producer is not None
    return find(pattern, value.producer, misses) or misses.reason


def layer(g: Draft) -> Value:
    return g.op("Conv", g.input(1, 3, 4, 4), g.weight(2, 3, 1, 1))


RELU_OF_CONV = Op("Relu", Op("Conv", Any("x"), Const("w"), Const("b", optional=True), bind="conv"))


def test_binds_values_nodes_and_options_left_out() -> None:
    g = Draft()
    y = g.op("Relu", layer(g))
    g.output(y)
    found = match(RELU_OF_CONV, y)
    assert isinstance(found, Match)
    assert found["x"] is g.graph.inputs[0]
    assert found.data("w").shape == (2, 3, 1, 1)
    assert found.get("b") is None and not found.has("b")
    assert found.node("conv").op_type == "Conv" and found.root is y.producer
    assert [node.op_type for node in found.nodes] == ["Relu", "Conv"]
    with pytest.raises(IRError, match="the optional input bound as 'b' is left out"):
        found["b"]
    with pytest.raises(IRError, match="'x' is not a constant"):
        found.data("x")


def test_operands_of_commutative_operators_match_in_any_order() -> None:
    g = Draft()
    x, c = g.input(3), g.const(2.0)
    pattern = Op("Mul", Any("x"), Scalar(2, "c"))
    for y in (g.op("Mul", x, c), g.op("Mul", c, x)):
        found = match(pattern, y)
        assert isinstance(found, Match) and found["x"] is x and found["c"] is c
    assert match(Op("Sub", Any("x"), Scalar(2)), g.op("Sub", c, x)) == "'x0' is not a constant"


def test_one_name_means_one_value() -> None:
    g = Draft()
    x = g.input(3)
    square = Op("Mul", Any("x"), Any("x"))
    assert isinstance(match(square, g.op("Mul", x, x)), Match)
    assert "is not the value already bound to 'x'" in str(match(square, g.op("Mul", x, g.op("Exp", x))))


def test_the_first_alternative_that_leads_to_a_whole_match_is_taken() -> None:
    g = Draft()
    x = g.input(3)
    inner = Either(Op("Exp", Op("Neg", Any("x"))), Op("Exp", Any("x")))
    y = g.op("Relu", g.op("Exp", g.op("Abs", x)))
    found = match(Op("Relu", inner), y)
    assert isinstance(found, Match) and found["x"].producer is not None
    assert found["x"].producer.op_type == "Abs"


def test_numbers_are_compared_as_their_type_rounds_them() -> None:
    g = Draft()
    x = g.input(3, dtype=DType.float16)
    pattern = Op("Mul", Any("x"), Scalar(np.sqrt(2)))
    assert isinstance(match(pattern, g.op("Mul", x, g.const(np.sqrt(2), np.float16))), Match)
    y = g.op("Mul", g.input(3), g.const(1.415))
    assert match(pattern, y) == "'c_1' is 1.415, not 1.41421"
    z = g.op("Mul", g.input(3), g.const([1.0, 2.0, 3.0]))
    assert match(pattern, z) == "'c_2' is not a single number"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g: g.op("Relu", g.input(3)), "'x0' is a graph input, want Conv"),
        (lambda g: g.op("Relu", g.const(1.0)), "'c' is a constant, want Conv"),
        (lambda g: g.op("Relu", g.op("Exp", g.input(3))), "'Exp.0' is made by Exp 'case', want Conv"),
        (
            lambda g: g.op("Relu", g.op("Conv", g.input(1, 1, 2), g.input(1, 1, 1))),
            "'x1' is not a constant",
        ),
    ],
)
def test_the_closest_miss_is_told(build: object, reason: str) -> None:
    assert match(RELU_OF_CONV, build(Draft())) == reason  # type: ignore[operator]


def test_the_deepest_failure_is_the_closest() -> None:
    g = Draft()
    pattern = Op("Add", Op("Mul", Op("Exp", Any("x")), Scalar(2)), Scalar(1))
    y = g.op("Add", g.op("Mul", g.op("Exp", g.input(3)), g.const(3.0)), g.const(1.0))
    assert match(pattern, y) == "'c' is 3, not 2"


def test_attributes_and_outputs_are_compared() -> None:
    g = Draft()
    first, second = g.ops("Split", g.input(4), g.ints(2, 2), outputs=2, axis=0)
    pattern = Op("Relu", Op("Split", Any("x"), more=True, output=1, attributes={"axis": 0}))
    assert isinstance(match(pattern, g.op("Relu", second)), Match)
    assert "is output 0 of its node, want 1" in str(match(pattern, g.op("Relu", first)))
    other = g.ops("Split", g.input(2, 2), g.ints(1, 1), outputs=2, axis=1)[1]
    assert "axis of 'case' is 1, not 0" in str(match(pattern, g.op("Relu", other)))


def test_more_operands_than_the_pattern_has_are_refused_unless_admitted() -> None:
    g = Draft()
    y = g.op("Clip", g.input(3), g.const(0.0))
    assert match(Op("Clip", Any("x")), y) == "'case' has 2 inputs, want 1"
    assert isinstance(match(Op("Clip", Any("x"), more=True), y), Match)


def test_what_is_used_outside_cannot_be_taken() -> None:
    g = Draft()
    y = layer(g)
    relu, exp = g.op("Relu", y), g.op("Exp", y)
    g.output(relu, exp)
    assert match(RELU_OF_CONV, relu) == "'Conv.0' (made by Conv 'case') is also used by Exp 'case'"
    shared = Op("Relu", Op("Conv", Any("x"), Const("w"), shared=True))
    assert isinstance(match(shared, relu), Match)


def test_a_graph_output_cannot_be_taken() -> None:
    g = Draft()
    y = layer(g)
    relu = g.op("Relu", y)
    g.output(relu, y)
    assert match(RELU_OF_CONV, relu) == "'Conv.0' (made by Conv 'case') is a graph output"


def test_sharing_is_granted_node_by_node() -> None:
    """The outer Exp may be read elsewhere, the inner one may not."""
    g = Draft()
    inner = g.op("Exp", g.input(3))
    y = g.op("Relu", g.op("Exp", inner))
    g.output(y, inner)
    pattern = Op("Relu", Op("Exp", Op("Exp", Any("x")), shared=True))
    assert "is a graph output" in str(match(pattern, y))


def test_a_match_never_leaves_a_nested_graph() -> None:
    graph = Graph("outer", opset=24)
    kind = TensorType(DType.float32, (2,))
    x = graph.add_input("x", kind)
    exp = graph.add("Exp", [x], types=[kind])
    nested = Graph("branch", opset=24, parent=graph)
    relu = nested.add("Relu", [exp.output], types=[kind])
    nested.add_output(relu.output)
    misses = Misses()
    assert find(Op("Relu", Op("Exp", Any("x"))), relu, misses) is None
    assert misses.reason == "'Exp.0' is made outside the nested graph"
