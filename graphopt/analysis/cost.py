"""What a node or a graph costs: arithmetic, bytes moved, parameters.

Parameters are the elements of constants that are computed with; shapes, axes, pads and other structural
operands are none. Bytes are those of the tensors read and written once each, as ONNX stores them (two 4-bit
elements to a byte); caches are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.macs import flops, macs, total
from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.ir.nesting import reads
from graphopt.ir.structural import structural_inputs


@dataclass(frozen=True)
class Cost:
    """None stands for what cannot be told, because a dimension is a symbol or a branch is open.

    `activation_bytes` are read and written; `weight_bytes` are those of the parameters.
    """

    macs: int | None
    flops: int | None
    activation_bytes: int | None
    weight_bytes: int
    parameters: int


def cost_of(node: Node) -> Cost:
    """The cost of one execution of `node`."""
    activations = [value for value in reads(node) if not value.is_constant]
    weights = parameters_of(node)
    return Cost(
        macs(node),
        flops(node),
        total(_nbytes(value) for value in (*activations, *node.outputs)),
        sum(_nbytes(value) or 0 for value in weights),
        sum(value.constant.size for value in weights if value.constant is not None),
    )


def cost_of_graph(graph: Graph) -> Cost:
    """The sum over the nodes, where a parameter that several nodes share counts once.

    The nodes of nested graphs count as parameters alone.
    """
    costs = [cost_of(node) for node in graph.nodes]
    weights = {value: None for node in graph.all_nodes() for value in parameters_of(node)}
    return Cost(
        total(cost.macs for cost in costs),
        total(cost.flops for cost in costs),
        total(cost.activation_bytes for cost in costs),
        sum(_nbytes(value) or 0 for value in weights),
        sum(value.constant.size for value in weights if value.constant is not None),
    )


def parameters_of(node: Node) -> list[Value]:
    """The constants that `node` computes with, each once; a group's are those that its members do."""
    if not is_fused(node):
        structural = structural_inputs(node)
        operands = [v for index, v in enumerate(node.inputs) if index not in structural]
        return list(dict.fromkeys(v for v in operands if v is not None and v.is_constant))
    body = body_of(node)
    outside = dict(zip(body.inputs, node.inputs, strict=True))
    found: dict[Value, None] = {}
    for member in body.nodes:
        structural = structural_inputs(member)
        for index, inner in enumerate(member.inputs):
            value = None if inner is None else outside.get(inner, inner)
            if value is not None and value.is_constant and index not in structural:
                found[value] = None
    return list(found)


def _nbytes(value: Value) -> int | None:
    return value.type.nbytes if value.type is not None and value.is_static else None
