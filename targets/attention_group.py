"""Which attentions one kernel computes, and the moves around them that it takes in: nothing is copied for those.

Split, Reshape, Transpose in front of the queries, keys and values;  the Transpose behind the result
"""

from __future__ import annotations

from graphopt.ir import DType, Node, Value
from graphopt.targets.strided import moves_of, view_from

FEWEST_QUERIES = 4
"""With fewer, putting the keys in order costs more than it saves."""


def is_plain(node: Node) -> bool:
    """Attention in float32, with or without a mask or causality and nothing else."""
    if not node.is_op("Attention") or any(v.uses or v.is_graph_output for v in node.outputs[1:]):
        return False
    if any(v is not None for v in node.inputs[4:]):
        return False
    if node.float("softcap") or node.int("softmax_precision"):
        return False
    if node.int("left_window_size", -1) >= 0 or node.int("right_window_size", -1) >= 0:
        return False
    tensors = [v for v in node.inputs[:3] if v is not None] + [node.output]
    if any(v.dtype is not DType.float32 or not v.is_static or not v.size for v in tensors):
        return False
    queries, keys = tensors[0].static_shape, tensors[1].static_shape
    return queries[-2] >= FEWEST_QUERIES and _mask_covers(node.input(3), keys[-2])


def _mask_covers(mask: Value | None, keys: int) -> bool:
    """There is none, or one of floats or booleans for every key."""
    if mask is None:
        return True
    if mask.dtype not in (DType.float32, DType.bool) or not mask.is_static or mask.scalar() is not None:
        return False
    return 2 <= len(mask.static_shape) <= 4 and mask.static_shape[-1] == keys


def surroundings(node: Node) -> list[Node]:
    """The moves in front of `node` that nobody else reads, and the Transpose behind it."""
    found: dict[Node, None] = {}
    chains = [moves_of(value) for value in node.inputs[:3] if value is not None]
    while True:
        kept = {node, *(move for chain in chains for move in chain)}
        cut = [_as_far_as(chain, kept) for chain in chains]
        if cut == chains:
            break
        chains = cut
    for chain in chains:
        found.update(dict.fromkeys(chain))
    users = list(node.output.users)
    if len(users) == 1 and not node.output.is_graph_output and view_from(node.output, users) is not None:
        found[users[0]] = None
    return list(found)


def _as_far_as(chain: list[Node], kept: set[Node]) -> list[Node]:
    """The moves before the first one whose results are needed outside."""
    for number, move in enumerate(chain):
        if any(v.is_graph_output or any(user not in kept for user in v.users) for v in move.outputs):
            return chain[:number]
    return chain
