"""Constant folding: a deterministic node on constants becomes its value.

    Add(1, 2)  -->  3

A result much larger than its operands (Expand, Tile, ConstantOfShape) is left to run time above `max_bytes`,
so that folding never blows a model up. Weights behind QuantizeLinear and DequantizeLinear stay quantised unless
`dequantize` is set, whatever they grow to: a quantised graph must keep saying what is quantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.ir import ONNX, Graph, Node
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
        for node in graph.nodes:
            reason = self.reason_against(node)
            if not reason:
                reason = self._fold(graph, node)
            statistics.tried[self.name] += 1
            if not reason:
                statistics.fired[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt(self.name, node.name, node.key, reason))
        graph.remove_unused_constants()

    def reason_against(self, node: Node) -> str:
        """Why the node is not folded; empty when it may be."""
        if node.domain != ONNX or node.subgraphs:
            return "it is not a plain ONNX operator"
        if node.op_type in RANDOM:
            return "it is random"
        if node.op_type in QUANTISERS and not self.dequantize:
            return "quantisation stays explicit"
        if node.op_type == "Dropout" and node.int("training_mode"):
            return "it is random"
        for value in node.inputs:
            if value is not None and value.constant is None:
                return f"'{value.name}' is not a constant"
        return self._growth(node)

    def _growth(self, node: Node) -> str:
        made = sum(v.type.nbytes for v in node.outputs if v.type is not None and v.is_static)
        given = sum(v.type.nbytes for v in node.inputs if v is not None and v.type is not None)
        if self._too_large(node, made, given):
            return f"its result of {made} bytes is larger than its operands"
        return ""

    def _too_large(self, node: Node, made: int, given: int) -> bool:
        return made > self.max_bytes and made > given and node.op_type not in QUANTISERS

    def _fold(self, graph: Graph, node: Node) -> str:
        operands = [None if v is None else v.constant for v in node.inputs]
        try:
            results = evaluate_node(node, operands)
        except GraphoptError as error:
            return str(error)
        if any(self._too_large(node, array.nbytes, _given(operands)) for array in results):
            return "its result is larger than its operands"
        for value, array in zip(node.outputs, results, strict=False):
            if value.uses or value.is_graph_output:
                data = np.ascontiguousarray(array).reshape(array.shape)
                value.replace_uses(graph.add_constant(data, value.name))
        graph.remove(node)
        return ""


def _given(operands: list[np.ndarray | None]) -> int:
    return sum(a.nbytes for a in operands if a is not None)
