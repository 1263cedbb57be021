"""Constant folding: a deterministic node on constants becomes its value.

    Add(1, 2)  -->  3

Folding never blows a model up: results larger than their operands (Expand, Tile, Range, ConstantOfShape) are
folded up to `max_bytes` more bytes in one run, the rest is left to run time. Weights behind QuantizeLinear and
DequantizeLinear stay quantised unless `dequantize` is set, whatever they grow to: a quantised graph must keep saying
what is quantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.ir import ONNX, Graph, Node, TensorType
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics
from graphopt.runtime.reference import evaluate_node

RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)

QUANTISERS = frozenset({"DequantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute at compile time what depends on constants alone."""

    name: ClassVar[str] = "fold-constants"
    max_bytes: int = 1 << 20
    dequantize: bool = False

    def run(self, graph: Graph, statistics: Statistics) -> None:
        self._fold_graph(graph, statistics, self.max_bytes)
        graph.remove_unused_constants()

    def _fold_graph(self, graph: Graph, statistics: Statistics, room: int) -> int:
        """Fold in `graph`, then in the graphs nested in it; returns what is left of `room` bytes to grow by."""
        for node in graph.nodes:
            reason, room = self._try(node, room)
            statistics.tried[self.name] += 1
            if not reason:
                statistics.fired[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if node.domain == ONNX:
                for nested in node.subgraphs:
                    room = self._fold_graph(nested, statistics, room)
        return room

    def _try(self, node: Node, room: int) -> tuple[str, int]:
        """Fold `node`, or say why not; with what is left of `room`."""
        if reason := self.reason_against(node):
            return reason, room
        made = sum(v.type.nbytes for v in node.outputs if v.type is not None and v.is_static)
        if (growth := _growth(node, made)) > room:
            return f"the model would grow by {growth} bytes", room
        try:
            results = evaluate_node(node, [None if v is None else v.constant for v in node.inputs])
        except GraphoptError as error:
            return str(error), room
        for value, array in zip(node.outputs, results, strict=False):
            if value.type is None or not value.type.accepts(TensorType(value.dtype, array.shape)):
                return f"the reference gives '{value.name}' the shape {list(array.shape)}", room
        if (growth := _growth(node, sum(array.nbytes for array in results))) > room:
            return f"the model would grow by {growth} bytes", room
        _replace(node, results)
        return "", room - growth

    def reason_against(self, node: Node) -> str:
        """Why the node is not folded, its size aside; empty when it may be."""
        if node.domain != ONNX or node.subgraphs:
            return "it is not a plain ONNX operator"
        if node.op_type in RANDOM:
            return "it is random"
        if node.op_type in QUANTISERS and not self.dequantize:
            return "quantisation stays explicit"
        training = node.input(2)
        if node.op_type == "Dropout" and training is not None and training.scalar() is not False:
            return "it is random"
        for value in node.inputs:
            if value is not None and value.constant is None:
                return f"'{value.name}' is not a constant"
        return ""


def _growth(node: Node, made: int) -> int:
    """Bytes by which the results exceed the operands; those of dequantised weights do not count."""
    given = {v: v.constant.nbytes for v in node.inputs if v is not None and v.constant is not None}
    return 0 if node.op_type in QUANTISERS else max(made - sum(given.values()), 0)


def _replace(node: Node, results: list[np.ndarray]) -> None:
    graph = node.graph
    assert graph is not None
    for value, array in zip(node.outputs, results, strict=False):
        if value.uses or value.is_graph_output:
            data = np.ascontiguousarray(array).reshape(array.shape)
            value.replace_uses(graph.add_constant(data, value.name))
    graph.remove(node)
