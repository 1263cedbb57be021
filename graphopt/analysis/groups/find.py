"""Groups of channels: what has to go together when a model is to get narrower.

    groups = channel_groups(graph)

Rules tell how the axes of the tensors of each node hang together (`catalog.py`). Two networkx graphs make groups of
that. In the first the vertices are dimensions, joined where they are alike index by index; its components are axes that
all nodes see in one way. In the second the vertices are single indices of those components, joined by partial links;
its components are units: slices of constants and of values, of which either all are removed or none. Units that lie in
the same dimensions are a group: what can be ranked against each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import networkx
import numpy as np

from graphopt.analysis.groups.catalog import RESHAPES, RULES, SEVERAL_OUTPUTS
from graphopt.analysis.groups.links import Dimension, Holder, Links, dimensions_of, operand
from graphopt.analysis.groups.reshapes import Product, reshape
from graphopt.ir import Graph, Node, Use, Value
from graphopt.ir.nesting import reads
from graphopt.ir.structural import structural_inputs

PINNED = "pinned"
"""The vertex that everything is joined with that may not go."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Where the units of a group lie in one dimension: `indices` (units, k).

    `is_read` tells a constant that is summed over: it reads the channels, and does not make them.
    """

    dimension: Dimension
    indices: np.ndarray
    is_read: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """Units that may go one by one, as long as one stays.

    `name` is that of the first node whose weights make them. `coupled` tells why what stays changes when some go; empty
    where removing units is the same as making their weights zero.
    """

    name: str
    size: int
    stretches: tuple[Stretch, ...]
    coupled: str = ""

    @property
    def makers(self) -> list[Stretch]:
        """The constants that make the units."""
        return [s for s in self.stretches if s.dimension.is_constant and not s.is_read]

    @property
    def readers(self) -> list[Stretch]:
        """The constants that units are multiplied with."""
        return [s for s in self.stretches if s.is_read]


@dataclass(frozen=True)
class Fixed:
    """Channels, made by the node called `name`, that stay as they are."""

    name: str
    size: int
    reason: str


@dataclass(frozen=True)
class Groups:
    """All groups of a graph, and what weights make that no group has."""

    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...]


def channel_groups(graph: Graph) -> Groups:
    """The groups of `graph`, in the order in which nodes make them."""
    links = Links()
    open_products = _told(graph, links)
    while open_products:
        classes = _Classes(links)
        open_products = _settle(open_products, links, classes)
    classes = _Classes(links)
    order = {node: number for number, node in enumerate(graph.nodes)}
    return Groups(tuple(_groups(links, classes, order)), tuple(_fixed(links, classes, order)))


def _told(graph: Graph, links: Links) -> list[Product]:
    """Let the rules of all nodes speak; returns the reshapes that are to be settled."""
    products = []
    for ends, told in ((graph.inputs, "an input of the model"), (graph.outputs, "an output of the model")):
        for value in ends:
            for dimension in dimensions_of(value):
                links.pin(dimension, f"'{value.name}' is {told}")
    for node in graph.nodes:
        links.begin()
        if _is_known(node):
            if node.op_type in RESHAPES:
                products += reshape(node, links)
            else:
                RULES[node.op_type](node, links)
        links.finish(node, _holders(node))
    return products


def _is_known(node: Node) -> bool:
    used = [value for value in node.outputs if value.uses or value.is_graph_output]
    if node.domain or node.op_type not in RULES and node.op_type not in RESHAPES:
        return False
    if len(used) > 1 and node.op_type not in SEVERAL_OUTPUTS:
        return False
    return all(value is None or value.shape is not None for value in (*node.inputs, *used))


def _holders(node: Node) -> list[Holder]:
    structural = structural_inputs(node)
    operands = [operand(node, index) for index in range(len(node.inputs)) if index not in structural]
    captured = [value for value in reads(node) if not value.is_constant and value not in operands]
    return [*(holder for holder in operands if holder is not None), *captured, *node.outputs]


class _Classes:
    """Components of dimensions that are alike, and which of their indices are pinned or linked with others."""

    def __init__(self, links: Links) -> None:
        known = networkx.Graph()
        known.add_edges_from(links.alike)
        ends = [one for part in links.parts for one in (part.first, part.second)]
        known.add_nodes_from((*ends, *links.pinned))
        self.members: list[list[Dimension]] = [list(found) for found in networkx.connected_components(known)]
        self.of = {one: number for number, found in enumerate(self.members) for one in found}
        self.sizes = [found[0].size or 0 for found in self.members]
        whole = {self.of[one] for one in links.pinned}
        whole |= {number for number, size in enumerate(self.sizes) if size < 2}
        self._join(links, whole)

    def _join(self, links: Links, whole: set[int]) -> None:
        indices = networkx.Graph()
        indices.add_node(PINNED)
        for part in links.parts:
            a, b = self.of[part.first], self.of[part.second]
            firsts, seconds = part.first_indices.tolist(), part.second_indices.tolist()
            indices.add_edges_from(((a, i), (b, j)) for i, j in zip(firsts, seconds, strict=True))
        for vertex in list(indices):
            if vertex != PINNED and vertex[0] in whole:
                indices.add_edge(vertex, PINNED)
        self._pinned = networkx.node_connected_component(indices, PINNED)
        self.whole = whole
        indices.remove_nodes_from(self._pinned)
        self.joined = list(networkx.connected_components(indices))

    def pinned_share(self, one: Dimension) -> float:
        """How much of a dimension is pinned."""
        number = self.of[one]
        if number in self.whole:
            return 1.0
        return (
            sum((number, index) in self._pinned for index in range(self.sizes[number])) / self.sizes[number]
        )

    def units(self) -> Iterable[list[tuple[int, int]]]:
        """(class, index) of each unit, in order."""
        seen = set()
        for component in self.joined:
            seen |= component
            yield sorted(component)
        for number, size in enumerate(self.sizes):
            if number not in self.whole:
                for index in range(size):
                    if (number, index) not in seen and (number, index) not in self._pinned:
                        yield [(number, index)]


def _settle(waiting: list[Product], links: Links, classes: _Classes) -> list[Product]:
    """Settle the products with at most one free axis, or else the first; returns those that are left."""
    clear = []
    for product in waiting:
        free = [number for number, one in enumerate(product.short) if not _is_pinned(one, classes)]
        if len(free) < 2:
            clear.append((product, free[0] if free else None))
    if not clear:
        free = [number for number, one in enumerate(waiting[0].short) if not _is_pinned(one, classes)]
        clear = [(waiting[0], free[0])]
    for product, chosen in clear:
        product.settle(links, chosen)
    done = [product for product, _ in clear]
    return [product for product in waiting if product not in done]


def _is_pinned(one: Dimension, classes: _Classes) -> bool:
    return one in classes.of and classes.pinned_share(one) > 0


def _groups(links: Links, classes: _Classes, order: dict[Node, int]) -> list[Group]:
    found: dict[tuple, list[list[tuple[int, int]]]] = defaultdict(list)
    for unit in classes.units():
        signature = tuple(sorted(Counter(number for number, _ in unit).items()))
        found[signature].append(unit)
    groups = [_group(units, signature, links, classes, order) for signature, units in found.items()]
    real = [group for group in groups if group is not None and group.size > 1]
    return sorted(real, key=lambda group: _place(group, order))


def _group(
    units: list[list[tuple[int, int]]],
    signature: Sequence[tuple[int, int]],
    links: Links,
    classes: _Classes,
    order: dict[Node, int],
) -> Group | None:
    units = sorted(units)
    stretches = []
    for number, _ in signature:
        indices = np.array([[i for n, i in unit if n == number] for unit in units])
        members = sorted(classes.members[number], key=lambda one: _order_of(one, order))
        stretches += [Stretch(one, indices, one in links.read) for one in members]
    coupled = next((links.coupled[s.dimension] for s in stretches if s.dimension in links.coupled), "")
    group = Group("", len(units), tuple(stretches), coupled)
    if not group.makers:
        return None
    first = min((s.dimension for s in group.makers), key=lambda one: _order_of(one, order))
    return Group(_name(first), group.size, group.stretches, coupled)


def _fixed(links: Links, classes: _Classes, order: dict[Node, int]) -> list[Fixed]:
    """Of each component that is pinned as a whole and that weights make."""
    found = []
    for number in classes.whole:
        members = classes.members[number]
        makers = [one for one in members if one.is_constant and one not in links.read]
        if not makers or classes.sizes[number] < 2:
            continue
        first = min(makers, key=lambda one: _order_of(one, order))
        reason = next((links.pinned[one] for one in members if one in links.pinned), "")
        found.append((_order_of(first, order), Fixed(_name(first), classes.sizes[number], reason)))
    return [fixed for _, fixed in sorted(found, key=lambda pair: pair[0])]


def _name(one: Dimension) -> str:
    assert isinstance(one.holder, Use)
    node = one.holder.node
    return node.origin.known_as(node.name)


def _order_of(one: Dimension, order: dict[Node, int]) -> tuple[int, int, int]:
    holder = one.holder
    if isinstance(holder, Value):
        return order.get(holder.producer, -1) if holder.producer else -1, 99 + holder.index, one.axis
    return order.get(holder.node, -1), holder.index, one.axis


def _place(group: Group, order: dict[Node, int]) -> tuple[int, int, int]:
    return min(_order_of(s.dimension, order) for s in group.makers)
