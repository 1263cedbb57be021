"""Shape folding: arithmetic on shapes becomes constants, as far as the shapes are known.

    Concat(Slice(Shape(x), 0, 1), [64])  -->  [1, 64]      x: float32[1, 8, 8]

Elements of small integer tensors are followed as numbers or as unknowns, so that a chain with a symbolic
batch still yields the static rest: Reshape(x, [batch, 64]) becomes Reshape(x, [-1, 64]), and
Reshape(x, [batch, -1]) becomes Reshape(x, [0, -1]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import ONNX, Dim, Graph, Node, Value
from graphopt.ir.elements import Elements, evaluate, is_numbers
from graphopt.ir.types import Shape
from graphopt.onnx_io.infer import possible_outputs
from graphopt.passes.eliminate_dead_code import sweep
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Turn Shape, Gather, Concat ... chains into constants and sharpen the types that depend on them."""

    name: ClassVar[str] = "fold-shapes"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        statistics.fired[self.name] += self._fold(graph, {})
        sweep(graph)

    def _fold(self, graph: Graph, known: dict[Value, Elements]) -> int:
        """Fold in `graph` and, with what is `known` there, in the graphs nested in it."""
        folded = 0
        for node in graph.nodes:
            self._sharpen(node)
            for value, elements in zip(node.outputs, evaluate(node, known), strict=False):
                if elements is not None:
                    known[value] = elements
                    folded += _materialise(graph, value, elements)
            if node.is_op("Reshape"):
                folded += _fix_reshape(graph, node, known)
                self._sharpen(node)
            if node.domain == ONNX:
                folded += sum(self._fold(nested, known) for nested in node.subgraphs)
        return folded

    def _sharpen(self, node: Node) -> None:
        """Infer again: operands may have become constants."""
        if node.subgraphs:
            return
        for value, type in zip(node.outputs, possible_outputs(node, {}), strict=True):
            if type is None:
                continue
            if value.type is None or value.type.shape is None:
                value.type = type
            elif type.shape is not None and len(type.shape) == len(value.type.shape):
                pairs = zip(value.type.shape, type.shape, strict=True)
                value.type = value.type.with_shape(tuple(_sharper(old, new) for old, new in pairs))


def _sharper(old: Dim, new: Dim) -> Dim:
    """The number, else the name, of a dimension told twice."""
    if isinstance(old, int) or isinstance(new, int):
        return new if isinstance(new, int) else old
    return new if old.startswith("?") else old


def _materialise(graph: Graph, value: Value, elements: Elements) -> int:
    """Replace a value all of whose elements are numbers by a constant."""
    if value.type is None or not (value.uses or value.is_graph_output) or not is_numbers(elements):
        return 0
    data = np.asarray(elements.tolist(), dtype=value.dtype.numpy).reshape(elements.shape)
    value.replace_uses(graph.add_constant(data, value.name))
    return 1


def _fix_reshape(graph: Graph, node: Node, known: dict[Value, Elements]) -> int:
    """Make the target of a Reshape a constant where it can be told without its unknown elements."""
    data, target = node.input(0), node.input(1)
    if data is None or target is None or target.is_constant or node.int("allowzero"):
        return 0
    shape: list[int] | None = None
    if node.output.is_static and 0 not in node.output.static_shape:
        shape = list(node.output.static_shape)
    elif target in known:
        shape = _target(data.shape or (), list(known[target]))
    if shape is None:
        return 0
    node.set_input(1, graph.add_constant(np.asarray(shape, np.int64), f"{node.name}.shape"))
    return 1


def _target(given: Shape, elements: list[Dim | None]) -> list[int] | None:
    """The one unknown element is -1; symbols that stand where they stood are 0, which copies. Else None."""
    numbers = [e for e in elements if isinstance(e, int)]
    if len(elements) - len(numbers) == 1 and -1 not in numbers and 0 not in numbers:
        return [e if isinstance(e, int) else -1 for e in elements]
    copied = [e is not None and place < len(given) and given[place] == e for place, e in enumerate(elements)]
    if any(not isinstance(e, int) and not same for e, same in zip(elements, copied, strict=True)):
        return None
    return [e if isinstance(e, int) else 0 for e in elements]
