"""Common subexpressions: two nodes that compute the same become one.

    y = Relu(x); z = Relu(x)  -->  y = Relu(x); z is y

Constants with the same type and bytes count as the same; operands of commutative operators in any order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import KERNEL, Attribute, Graph, Node, Value
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics
from graphopt.rewrite.pattern import COMMUTATIVE

RANDOM = frozenset(
    "Bernoulli Dropout Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Compute once what is computed twice."""

    name: ClassVar[str] = "eliminate-common-subexpressions"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        statistics.fired[self.name] += self._merge(graph)
        graph.remove_unused_constants()

    def _merge(self, graph: Graph) -> int:
        """Merge within `graph`, then within each graph nested in it; returns how many nodes and constants went."""
        merged = _merge_constants(graph)
        seen: dict[tuple, Node] = {}
        for node in graph.nodes:
            if node.subgraphs:
                merged += sum(self._merge(nested) for nested in node.subgraphs if node.domain != KERNEL)
                continue
            if node.op_type in RANDOM:
                continue
            first = seen.setdefault(_key(node), node)
            if first is node:
                continue
            for old, new in zip(node.outputs, first.outputs, strict=True):
                old.replace_uses(new)
            first.origin = first.origin.merged(first.origin.rule or self.name, [node])
            graph.remove(node)
            merged += 1
        return merged


def _merge_constants(graph: Graph) -> int:
    seen: dict[tuple, Value] = {}
    merged = 0
    for value in graph.constants:
        data = value.constant
        if data is None or data.dtype == object:
            continue
        key = (value.type, hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest())
        first = seen.setdefault(key, value)
        if first is not value:
            value.replace_uses(first)
            merged += 1
    return merged


def _key(node: Node) -> tuple:
    operands = [0 if v is None else id(v) for v in node.inputs]
    if node.op_type in COMMUTATIVE and not node.domain:
        operands.sort()
    attributes = tuple((name, _freeze(value)) for name, value in sorted(node.attributes.items()))
    return (node.key, tuple(operands), attributes, len(node.outputs))


def _freeze(value: Attribute) -> object:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return (type(value).__name__, value)
