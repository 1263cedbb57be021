"""Dominators and post-dominators of the nodes of a graph.

Node `d` dominates `n` when every path from the graph's inputs to `n` runs through `d`; it post-dominates `n` when
every path from `n` to where the graph ends does. The immediate one is the nearest. A graph ends at its outputs
and at results that nobody reads. Found by the algorithm of Cooper, Harvey and Kennedy ("A simple, fast dominance
algorithm", 2001), as networkx has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import Graph, Node
from graphopt.ir.view import to_networkx

if TYPE_CHECKING:
    import networkx

OUTSIDE = "outside"
"""The vertex before every input, or behind every end."""


def immediate_dominators(graph: Graph) -> dict[Node, Node | None]:
    """For each node, in execution order, its nearest dominator; None when only the outside dominates it."""
    return _nearest(graph, _between_nodes(graph))


def immediate_post_dominators(graph: Graph) -> dict[Node, Node | None]:
    """For each node, in execution order, its nearest post-dominator; None when only the outside is one."""
    return _nearest(graph, _between_nodes(graph).reverse())


def post_dominators(graph: Graph) -> dict[Node, tuple[Node, ...]]:
    """For each node all others that post-dominate it, the nearest first."""
    nearest = immediate_post_dominators(graph)
    chains: dict[Node, tuple[Node, ...]] = {}
    for node in reversed(nearest):  # a post-dominator comes later in the order
        after = nearest[node]
        chains[node] = () if after is None else (after, *chains[after])
    return {node: chains[node] for node in nearest}


def _between_nodes(graph: Graph) -> networkx.DiGraph:
    """Edges from node to node alone, and a vertex for the rest of the world at both ends."""
    import networkx

    view = to_networkx(graph)
    flow = networkx.DiGraph()
    flow.add_nodes_from(graph.nodes)
    for source, target in view.edges():
        inner = [end if isinstance(end, Node) else OUTSIDE for end in (source, target)]
        if inner != [OUTSIDE, OUTSIDE]:
            flow.add_edge(*inner)
    for node in graph.nodes:
        if not flow.in_degree(node):
            flow.add_edge(OUTSIDE, node)
        if not all(value.users or value.is_graph_output for value in node.outputs):
            flow.add_edge(node, OUTSIDE)
    return flow


def _nearest(graph: Graph, flow: networkx.DiGraph) -> dict[Node, Node | None]:
    import networkx

    if OUTSIDE not in flow:
        return {}
    found = networkx.immediate_dominators(flow, OUTSIDE)
    return {node: None if found[node] == OUTSIDE else found[node] for node in graph.nodes}
