"""Constant weights, once and for all in the order that a kernel walks them.

    LSTM(X, W, R, ...)  -->  graphopt.kernel::LSTM(X, packed W, packed R, ...) {lanes, accumulators}

The attributes tell the kernel how many hidden units lie side by side, and how many such tiles the target's
registers hold. Weights that are not constant stay as they are, and the kernel packs them at each run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir import KERNEL, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.recurrent_layout import (
    GATES,
    Sizes,
    pack_input_weights,
    pack_recurrent_weights,
    sizes_of,
)
from graphopt.targets.schedules.tiling import lanes

REGISTERS_FOR_SUMS = 0.75
"""The rest holds weights and what they are multiplied with."""

VECTORS_PER_TILE = 2
"""Two vectors side by side halve the loads of the other operand."""


def pack_weights(graph: Graph, target: Target) -> None:
    """Pack the weights of every recurrent operator of `graph`, in place."""
    for node in graph.nodes:
        if node.is_op(*GATES):
            _pack_recurrent(graph, node, target)
    graph.remove_unused_constants()


def _pack_recurrent(graph: Graph, node: Node, target: Target) -> None:
    chosen = _tiles(sizes_of(node).hidden, _bits(node), target)
    packed = graph.add(
        node.op_type,
        node.inputs,
        {**node.attributes, **chosen},
        types=[value.type for value in node.outputs],
        domain=KERNEL,
        before=node,
        origin=node.origin,
    )
    name, names = node.name, [value.name for value in node.outputs]
    sizes = sizes_of(packed)
    _replace(graph, packed, 1, pack_input_weights, sizes)
    _replace(graph, packed, 2, pack_recurrent_weights, sizes)
    for old, new in zip(node.outputs, packed.outputs, strict=True):
        old.replace_uses(new)
    graph.remove(node)
    graph.rename_node(packed, name)
    for value_name, value in zip(names, packed.outputs, strict=True):
        graph.rename(value, value_name)


def _replace(
    graph: Graph, node: Node, index: int, pack: Callable[[np.ndarray, Sizes], np.ndarray], sizes: Sizes
) -> None:
    value = node.input(index)
    assert value is not None
    if value.constant is not None:
        node.set_input(index, graph.add_constant(pack(value.constant, sizes), f"{value.name}.packed"))


def _tiles(hidden: int, bits: int, target: Target) -> dict[str, int]:
    """The tile width that needs the fewest vector operations for `hidden` units, the wider one of equals."""
    vector = max(lanes(target, bits), VECTORS_PER_TILE)
    vectors = min((VECTORS_PER_TILE, 1), key=lambda v: -(-hidden // (v * vector)) * v)
    sums = int(target.vector_registers * REGISTERS_FOR_SUMS) // vectors
    return {"lanes": vectors * vector, "accumulators": max(sums, 1)}


def _bits(node: Node) -> int:
    """Of the type that sums are kept in."""
    value = node.input(0)
    assert value is not None
    return max(value.dtype.bits, 32)
