"""What a group is: attention heads, the inner width of a feed-forward block, or channels.

heads    units along a batch axis of products of activations, or of Attention: Q, K and V with what reads them
inner    the width between dense layers, such as that of a transformer's feed-forward block
channels any other
"""

from __future__ import annotations

from graphopt.analysis.groups.find import Group
from graphopt.analysis.groups.links import Dimension
from graphopt.ir import Node, Use, Value

KINDS = ("heads", "inner", "channels")

DENSE = ("Gemm", "MatMul")


def kind_of(group: Group) -> str:
    """One of `KINDS`."""
    if any(_runs_over_heads(stretch.dimension) for stretch in group.stretches):
        return "heads"
    makers = [_node(s.dimension) for s in group.makers if (s.dimension.value.rank or 0) > 1]
    readers = [_node(s.dimension) for s in group.readers]
    is_inner = makers and readers and all(node.is_op(*DENSE) for node in (*makers, *readers))
    return "inner" if is_inner else "channels"


def _runs_over_heads(dimension: Dimension) -> bool:
    holder = dimension.holder
    return isinstance(holder, Value) and any(
        _multiplies_activations(use.node) and _is_batch_axis(use, dimension.axis) for use in holder.uses
    )


def _multiplies_activations(node: Node) -> bool:
    operands = node.inputs[:2]
    return node.is_op("Attention", "MatMul") and all(v is not None and v.constant is None for v in operands)


def _is_batch_axis(use: Use, axis: int) -> bool:
    """Of the operands of Attention axis 1 of four, or the last of three, in which heads lie side by side."""
    value = use.node.inputs[use.index]
    rank = 0 if value is None else value.rank or 0
    if use.node.is_op("Attention"):
        return use.index < 3 and axis == (1 if rank == 4 else 2)
    return axis < rank - 2


def _node(dimension: Dimension) -> Node:
    assert isinstance(dimension.holder, Use)
    return dimension.holder.node
