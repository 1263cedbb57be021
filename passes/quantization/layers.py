"""The layers of a graph: the nodes whose weights or products a scheme is for."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from graphopt.analysis.macs import macs
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.dynamic import why_not_dynamic
from graphopt.passes.quantization.operators import PRODUCTS, RECURRENT, is_float, is_lookup
from graphopt.passes.quantization.recurrent import why_not_recurrent
from graphopt.passes.quantization.scheme import Scheme

SHOWN = 5
"""Layers that a hint lists."""


def layer_name(node: Node) -> str:
    """What a user calls the layer: the name of the node of the model that it comes from, the earliest of several."""
    sources = node.origin.sources
    return node.name if not sources or node.name in sources else sources[-1]


def candidates(graph: Graph, scheme: Scheme) -> dict[Node, str]:
    """Every product, recurrence and table of floats, with the reason why it cannot be quantised; empty where it can.

    Other operators that multiply and add are among them, so that none is forgotten.
    """
    found = {}
    for node in graph.nodes:
        if not node.outputs or node.output.type is None or not is_float(node.output):
            continue
        if node.is_op(*PRODUCTS, *RECURRENT) or is_lookup(node):
            found[node] = why_not(node, scheme)
        elif macs(node):
            found[node] = f"{node.key} has no quantised form"
    return found


def why_not(node: Node, scheme: Scheme) -> str:
    """Why `scheme` is not for a layer; empty when it is."""
    if is_lookup(node):
        return ""
    if scheme.dynamic:
        return why_not_dynamic(node)
    if node.is_op(*RECURRENT):
        return why_not_recurrent(node, scheme)
    if scheme.activation_type is None and not weights_of(node):
        return "it has no weights"
    return ""


def weights_of(node: Node) -> list[Value]:
    """The constant weights of a layer."""
    operands = (
        node.inputs[1:3]
        if node.is_op(*RECURRENT)
        else node.inputs[:1]
        if is_lookup(node)
        else node.inputs[:2]
    )
    return [value for value in operands if value is not None and value.constant is not None]


def layers_of(graph: Graph, scheme: Scheme, exclude: Iterable[str] = ()) -> dict[Node, Scheme]:
    """The layers that can be quantised, all but those that `exclude` names (`*` and `?` stand for any letters).

    Raises UsageError for a name that fits no layer.
    """
    layers = [node for node, reason in candidates(graph, scheme).items() if not reason]
    names = {node: {node.name, layer_name(node), *node.origin.sources} for node in layers}
    left_out: set[Node] = set()
    for pattern in exclude:
        found = {n for n in layers if any(pattern == name or fnmatchcase(name, pattern) for name in names[n])}
        if not found:
            known = [layer_name(node) for node in layers]
            more = ", ..." if len(known) > SHOWN else ""
            hint = did_you_mean(pattern, known, f"layers: {', '.join(known[:SHOWN]) or 'none'}{more}")
            raise UsageError(f"there is no layer '{pattern}'", where="exclude", hint=hint)
        left_out |= found
    return {node: scheme for node in layers if node not in left_out}
