"""Which values of a float graph become integers.

Products (convolutions, matrix products) are what integers are for. A value is wanted as integers when a product reads
it, and whatever computes it from integers then works on integers too:

    Conv -> Relu -> Add -> Conv        the first Conv, Relu and Add make one group, with one quantisation behind Add

A value that the next element-wise operator alone reads stays in registers between the two and is not quantised; where
two such values meet, the one that is computed later does. Moves run on the integers themselves, so that their
operands and results share one scale. What stems from other arithmetic (squares, sums and roots of a normalisation
that is spelt out, additive masks) is no data that bytes could hold: it stays float up to the product that reads it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from graphopt.ir import DType, Graph, Node, Value
from graphopt.passes.quantization.operators import (
    BINARY,
    COMPUTED,
    ELEMENTWISE,
    PERCEPTIBLE,
    RECURRENT,
    ROWS,
    data_operands,
    is_float,
    is_lookup,
    is_move,
    keeps_range,
)
from graphopt.passes.quantization.scheme import Scheme

Bounds = tuple[float, float]

ALIKE = 0.5
"""Ranges that differ by less share a scale for a bit at most."""


class Placement:
    """Where quantisation goes.

    `stored[value]` are the types a value is quantised to. `precision[node]` is the type of what a node other than a
    product makes of integers. `owner[value]` stands for all values that share its scale.
    """

    def __init__(self, graph: Graph, layers: Mapping[Node, Scheme], bounds: Mapping[str, Bounds]) -> None:
        self.layers = {
            node: scheme
            for node, scheme in layers.items()
            if scheme.activation_type is not None and not is_lookup(node)
        }
        self.stored: dict[Value, set[DType]] = defaultdict(set)
        self.precision: dict[Node, DType] = {}
        self._bounds = bounds
        self._parent: dict[Value, Value] = {}
        self._wanted: dict[Value, set[DType]] = defaultdict(set)
        self._position = {node: index for index, node in enumerate(graph.nodes)}
        self._data = self._trace(graph)
        for node in reversed(list(graph.nodes)):
            self._visit(node)

    def owner(self, value: Value) -> Value:
        """The value that stands for all that share a scale with `value`."""
        while value in self._parent:
            value = self._parent[value]
        return value

    def reads_integers(self, node: Node) -> bool:
        return node in self.precision or node in self.layers

    def is_wanted(self, node: Node) -> bool:
        """Whether what `node` makes is read as integers, by a layer or on the way to one."""
        return any(self._wanted.get(value) for value in node.outputs)

    def _trace(self, graph: Graph) -> set[Value]:
        """The values that are data: inputs, results of products, and what is computed from those alone."""
        data = {value for value in graph.inputs if is_float(value) and self._is_perceptible(value)}
        for node in graph.nodes:
            if node in self.layers or is_lookup(node):
                made = True
            elif is_move(node) or keeps_range(node) or node.is_op(*COMPUTED):
                operands = data_operands(node)
                squares = node.op_type in BINARY and len(set(operands)) < len(operands)
                made = not squares and all(v.is_constant or v in data for v in operands)
            else:
                made = False
            if made:
                data.update(v for v in node.outputs if is_float(v) and self._is_perceptible(v))
        return data

    def _is_perceptible(self, value: Value) -> bool:
        low, high = self._bounds.get(value.name, (0.0, 0.0))
        return max(-low, high) < PERCEPTIBLE

    def _visit(self, node: Node) -> None:
        if node in self.layers:
            activations = self.layers[node].activation_type
            assert activations is not None
            for value in data_operands(node):
                self._store(value, activations)
            if node.is_op(*RECURRENT):
                self._join(list(node.outputs[:2]))
            return
        wanted = set().union(*(self._wanted[value] for value in node.outputs))
        if not wanted:
            return
        if is_move(node):
            self._share(node, wanted, apart=self._of_narrow_range(node))
        elif keeps_range(node) and node.output in self._data:
            self.precision[node] = max(wanted, key=lambda dtype: dtype.bits)
            self._share(node, {self.precision[node]})
        elif node.is_op(*COMPUTED) and node.output in self._data:
            if node.is_op(*ROWS):
                return
            self.precision[node] = max(wanted, key=lambda dtype: dtype.bits)
            inner = self._inner_operand(node)
            for value in data_operands(node):
                if value is inner:
                    self._wanted[value].add(self.precision[node])
                else:
                    self._store(value, self.precision[node])

    def _store(self, value: Value, dtype: DType) -> None:
        if not value.is_constant:
            self.stored[value].add(dtype)
            self._wanted[value].add(dtype)

    def _share(self, node: Node, dtypes: set[DType], apart: set[Value] = frozenset()) -> None:  # type: ignore[assignment]
        """What `node` reads and makes has one scale, but for the operands that stay `apart`."""
        operands = [v for v in data_operands(node) if not v.is_constant]
        for value in operands:
            for dtype in dtypes:
                self._store(value, dtype)
        together = [value for value in operands if value not in apart]
        self._join([*together, *(v for v in node.outputs if v.uses)])

    def _of_narrow_range(self, node: Node) -> set[Value]:
        """The operands of a Concat that others read too, and that lose by the scale of the widest one."""
        if node.op_type != "Concat":
            return set()
        widths = {value: self._width(value) for value in data_operands(node) if not value.is_constant}
        widest = max(widths.values(), default=0.0)
        return {v for v, width in widths.items() if width < ALIKE * widest and not self._is_for(v, node)}

    def _width(self, value: Value) -> float:
        low, high = self._bounds.get(value.name, (0.0, 0.0))
        return max(high, 0.0) - min(low, 0.0)

    @staticmethod
    def _is_for(value: Value, reader: Node) -> bool:
        """`value` is made for `reader` alone, not moved there."""
        producer = value.producer
        moved = producer is None or is_move(producer) or keeps_range(producer)
        return not moved and value.users == (reader,)

    def _join(self, values: list[Value]) -> None:
        """Let all of them have one scale."""
        first, *others = values
        for value in others:
            owner, other = self.owner(first), self.owner(value)
            if owner is not other:
                self._parent[other] = owner

    def _inner_operand(self, node: Node) -> Value | None:
        """The operand that stays in registers: made by integers, for `node` alone, the last before it."""
        if not node.is_op(*ELEMENTWISE):
            return None
        fitting = [value for value in data_operands(node) if self._is_inner(value, node)]
        return max(fitting, key=lambda v: self._position[v.producer], default=None)  # type: ignore[index]

    def _is_inner(self, value: Value, reader: Node) -> bool:
        producer = value.producer
        if producer is None or len(value.uses) != 1 or value.is_graph_output or value not in self._data:
            return False
        made_by_integers = producer in self.layers or producer.is_op(*COMPUTED)
        return made_by_integers and value.shape == reader.output.shape
