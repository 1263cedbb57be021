"""Which operators of a float graph go on reading floats where its layers are quantised, and why."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir import Graph, Node
from graphopt.passes.quantization.operators import (
    COMPUTED,
    ROWS,
    data_operands,
    is_float,
    is_lookup,
    is_move,
    keeps_range,
)
from graphopt.passes.quantization.placement import Bounds, Placement
from graphopt.passes.quantization.scheme import Scheme

OF_ROWS = "its operand is needed finer than in bytes"
FOR_FLOATS = "what it makes is read as floats"
NO_DATA = "squares, sums over them or masks are in its operands, which bytes do not hold"
NO_FORM = "it has no quantised form"


def float_nodes(graph: Graph, layers: Mapping[Node, Scheme], bounds: Mapping[str, Bounds]) -> dict[Node, str]:
    """The nodes that compute floats from floats, with the reason; layers are told elsewhere.

    There are none where no activation is quantised. What only moves elements counts as what it moves.
    """
    if not any(scheme.activation_type is not None for scheme in layers.values()):
        return {}
    placement = Placement(graph, layers, bounds)
    found = {}
    for node in graph.nodes:
        if node in layers or is_move(node) or is_lookup(node) or placement.reads_integers(node):
            continue
        if node.outputs and node.output.type is not None and is_float(node.output) and _reads_floats(node):
            found[node] = _reason(node, placement)
    return found


def _reads_floats(node: Node) -> bool:
    return any(is_float(v) and v.constant is None for v in data_operands(node) if v.type is not None)


def _reason(node: Node, placement: Placement) -> str:
    if node.is_op(*ROWS):
        return OF_ROWS
    if not placement.is_wanted(node):
        return FOR_FLOATS
    if node.is_op(*COMPUTED) or keeps_range(node):
        return NO_DATA
    return NO_FORM
