"""Blocks of layers whose result is only added to something: what can be left out as a whole.

    y = Add(x, f(x))  -->  y = x

A block is what nothing but one operand of an addition needs: a residual block, attention or the feed-forward part of a
transformer's layer, one side of a block that makes an image smaller. Blocks are found in what is left when others are
gone, so that those inside of another go with it.

Source: Veit et al. 2016 (residual networks bear the loss of blocks).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.cost import parameters_of
from graphopt.ir import Graph, Node, Value
from graphopt.passes.eliminate_dead_code import sweep

LAYERS = ("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")


@dataclass(frozen=True)
class Block:
    """What makes operand `operand` of the addition that is node number `position` of a graph.

    `name` is that of its last layer, `nodes` are names of all it consists of.
    """

    name: str
    position: int
    operand: int
    layers: int
    parameters: int
    nodes: frozenset[str]


def residual_blocks(graph: Graph) -> list[Block]:
    """The blocks of `graph`, in its order. Nodes that no output needs belong to none."""
    living = _living(graph)
    found = []
    for position, node in enumerate(graph.nodes):
        if node in living and node.is_op("Add"):
            blocks = (_block(graph, node, position, operand, living) for operand in (0, 1))
            found += [block for block in blocks if block is not None]
    return found


def detached(graph: Graph, blocks: Sequence[Block]) -> Graph:
    """A copy of `graph`, node by node the same, whose additions read zeros in place of the blocks."""
    copy = graph.clone()
    nodes = list(copy.nodes)
    for block in blocks:
        value = nodes[block.position].inputs[block.operand]
        assert value is not None
        zeros = np.zeros((1,) * (value.rank or 0), value.dtype.numpy)
        nodes[block.position].set_input(block.operand, copy.add_constant(zeros, "none"))
    return copy


def take_out(graph: Graph, blocks: Sequence[Block]) -> None:
    """Remove from `graph`, in place, additions of detached or attached blocks, and all that only they need."""
    nodes = list(graph.nodes)
    for block in blocks:
        node = nodes[block.position]
        rest = node.inputs[1 - block.operand]
        assert rest is not None
        node.output.replace_uses(rest)
    sweep(graph)


def living_nodes(graph: Graph) -> set[Node]:
    """Those that an output needs."""
    return _living(graph)


def _living(graph: Graph) -> set[Node]:
    found: set[Node] = set()
    for node in reversed(list(graph.nodes)):
        if any(v.is_graph_output or any(user in found for user in v.users) for v in node.outputs):
            found.add(node)
    return found


def _block(
    graph: Graph, addition: Node, position: int, operand: int, living: Collection[Node]
) -> Block | None:
    value, rest = addition.inputs[operand], addition.inputs[1 - operand]
    if value is None or rest is None or value is rest or value.producer is None or rest.is_constant:
        return None
    if value.rank is None or rest.shape != addition.output.shape:
        return None
    inside = _inside(graph, addition, operand, living)
    layers = [node for node in inside if node.is_op(*LAYERS) and parameters_of(node)]
    if not layers or any(_is_for(given, inside, living) for given in graph.inputs):
        return None
    weights = {weight for node in inside for weight in parameters_of(node)}
    last = layers[-1]
    names = {node.name for node in inside} | {name for node in inside for name in node.origin.sources}
    parameters = sum(weight.constant.size for weight in weights if weight.constant is not None)
    return Block(
        last.origin.known_as(last.name), position, operand, len(layers), parameters, frozenset(names)
    )


def _inside(graph: Graph, addition: Node, operand: int, living: Collection[Node]) -> list[Node]:
    """The nodes that nothing but one operand of `addition` needs, in order."""
    found: dict[Node, None] = {}
    value = addition.inputs[operand]
    for node in reversed(list(graph.nodes)):
        if node not in living:
            continue
        uses = [use for made in node.outputs for use in made.uses if use.node in living]
        is_kept = any(made.is_graph_output for made in node.outputs)
        ends = [use for use in uses if use.node is addition and use.index == operand]
        if uses and not is_kept and all(use in ends or use.node in found for use in uses):
            found[node] = None
        elif value in node.outputs:
            return []
    return list(found)[::-1]


def _is_for(given: Value, inside: Collection[Node], living: Collection[Node]) -> bool:
    """Whether an input of the model would be read by nobody."""
    users = [user for user in given.users if user in living]
    return bool(users) and all(user in inside for user in users)
