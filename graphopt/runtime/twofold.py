"""A quantised graph run twice at once: as it is, and as the float graph that it stands for.

Read as floats, QuantizeLinear and DequantizeLinear hand on what they are given, and a dequantised constant is the one
that was quantised (`originals`). Both runs go node by node over a stack of samples, so that whoever changes the weights
of a layer sees its operands as the layers before it, changed already, make them, beside what it should return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.runtime.stacked import (
    Environment,
    Evaluate,
    Operand,
    Operands,
    evaluate,
    forgetting,
    operands_of,
    outputs_of,
    scan,
)

Originals = Mapping[Value, np.ndarray]
"""Constants of integers, and what a DequantizeLinear makes of such -> the floats that they were."""


@dataclass(frozen=True)
class Visit:
    """A node about to run on quantised operands: those, the float ones, the float results, and what is around."""

    node: Node
    quantised: list[Operand | None]
    floats: list[Operand | None]
    results: list[Operand]
    environment: Environment


def run_twofold(
    graph: Graph,
    inputs: Environment,
    originals: Originals,
    before: Callable[[Visit], None] | None = None,
    after: Callable[[Node, list[Operand], list[Operand]], None] | None = None,
) -> tuple[list[Operand], list[Operand]]:
    """The outputs of `graph` as floats and quantised.

    `before` may replace constants of the graph upstream of its node; `after` is told the results of a node, float and
    quantised.
    """
    constants = {value: Operand(data, False) for value, data in originals.items() if value.is_constant}
    floats, quantised, as_floats = {**inputs, **constants}, dict(inputs), float_evaluator(originals)
    for node in forgetting(graph, floats, quantised):
        results = as_floats(node, operands_of(node, floats), floats)
        if before is not None and not node.is_op("DequantizeLinear"):
            before(Visit(node, operands_of(node, quantised), operands_of(node, floats), results, quantised))
            quantised.update(_constants_again(node))
        made = evaluate(node, operands_of(node, quantised), quantised)
        floats.update(zip(node.outputs, results, strict=False))
        quantised.update(zip(node.outputs, made, strict=False))
        if after is not None:
            after(node, results, made)
    return outputs_of(graph, floats), outputs_of(graph, quantised)


def _constants_again(node: Node) -> Environment:
    """What `node` reads of dequantised constants, as these are now."""
    found: Environment = {}
    for value in node.inputs:
        if value is not None and value.producer is not None and is_constant_dequantised(value):
            found[value] = evaluate(value.producer, operands_of(value.producer, {}), {})[0]
    return found


def float_evaluator(originals: Originals) -> Evaluate:
    """Runs nodes of a quantised graph as those of the float graph that it stands for."""

    def each(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
        if node.output in originals:
            return [Operand(originals[node.output], False)]
        if node.is_op("QuantizeLinear", "DequantizeLinear"):
            assert operands[0] is not None
            return [operands[0]]
        if node.is_op("Scan"):
            return scan(node, operands, environment, each)
        return evaluate(node, operands, environment)

    return each


def is_constant_dequantised(value: Value) -> bool:
    """Whether `value` is what a DequantizeLinear makes of a constant."""
    node = value.producer
    if node is None or not node.is_op("DequantizeLinear"):
        return False
    return all(operand is None or operand.constant is not None for operand in node.inputs)
