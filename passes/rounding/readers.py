"""The layers that read an activation, each with what alone reads its results.

    Q(x) -> moves -> layer -> bias -> Gelu -> GlobalMaxPool        what an error of x does is seen behind the last

An error that an activation flattens or a maximum passes over does no harm, and one that a mean takes in does little;
of the largest results that a maximum picks, errors count whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.quantization.operators import UNARY
from graphopt.passes.rounding.layer import QuantisedLayer, layer_of
from graphopt.runtime.stacked import Operand, evaluate, operands_of

MOVES = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
MAXIMA = frozenset({"GlobalMaxPool", "MaxPool", "ReduceMax"})
BEHIND = UNARY | MAXIMA | {"AveragePool", "GlobalAveragePool", "ReduceMean"}
INTEGERS = ("DequantizeLinear", "QuantizeLinear")
"""Between what is behind a layer these are passed over."""


@dataclass(frozen=True)
class Reader:
    """A layer, what moves elements between a quantisation and it, and what alone reads its results, in order."""

    layer: QuantisedLayer
    moves: tuple[Node, ...]

    @cached_property
    def behind(self) -> tuple[Node, ...]:
        node, found = self.layer.node, []
        if self.layer.bias is not None:
            node = self.layer.bias[0]
        while (
            len(node.output.uses) == 1 and not node.output.is_graph_output and not node.output.uses[0].index
        ):
            node = node.output.users[0]
            if not node.is_op(*BEHIND, *INTEGERS) or any(v and v.constant is None for v in node.inputs[1:]):
                break
            if not node.is_op(*INTEGERS):
                found.append(node)
        return tuple(found)

    def results(self, operand: np.ndarray, *, with_bias: bool = False) -> np.ndarray:
        """Of the layer alone."""
        moved = Operand(operand, True)
        for move in self.moves:
            moved = evaluate(move, [moved, *map(_optional, move.inputs[1:])], {})[0]
        made = evaluate(self.layer.node, [moved, _computed(self.layer.weights)], {})[0].data
        return made + self._bias(made) if with_bias else made

    def errors(self, errors: Iterable[np.ndarray], operand: np.ndarray) -> Iterator[np.ndarray]:
        """What each of several errors of the operand does: behind a maximum, or else to the layer's own results."""
        if not any(node.is_op(*MAXIMA) for node in self.behind):
            yield from map(self.results, errors)
            return
        results = self.results(operand, with_bias=True)
        exact = self._through(results)
        for error in errors:
            yield self._through(results + self.results(error)) - exact

    def _through(self, results: np.ndarray) -> np.ndarray:
        made = Operand(results, True)
        for node in self.behind:
            made = evaluate(node, [made, *map(_optional, node.inputs[1:])], {})[0]
        return made.data

    def _bias(self, results: np.ndarray) -> np.ndarray | float:
        if self.layer.bias is None:
            return 0.0
        bias = self.layer.bias_data.astype(np.float32)
        return bias.reshape(-1, *(1,) * (results.ndim - 3)) if self.layer.node.is_op("Conv") else bias


def readers_of(integers: Value, moves: tuple[Node, ...] = ()) -> list[Reader]:
    """The layers that read what is quantised; none where anything else does."""
    found: list[Reader] = []
    for node in integers.users:
        if integers.is_graph_output:
            return []
        if node.is_op(*MOVES):
            readers = readers_of(node.output, (*moves, node))
        elif node.is_op("DequantizeLinear") and not node.output.is_graph_output:
            layers = [layer_of(use.node) if use.index == 0 else None for use in node.output.uses]
            readers = [Reader(layer, moves) for layer in layers if layer is not None]
            readers = readers if len(readers) == len(layers) else []
        else:
            readers = []
        if not readers:
            return []
        found += readers
    return found


def _computed(dequantised: Value) -> Operand:
    """What a DequantizeLinear makes of a constant."""
    assert dequantised.producer is not None
    return evaluate(dequantised.producer, operands_of(dequantised.producer, {}), {})[0]


def _optional(value: Value | None) -> Operand | None:
    return None if value is None or value.constant is None else Operand(value.constant, False)
