"""Parallel layers on one input become one wider layer and a Split.

    Conv(x, W1, b1), Conv(x, W2, b2)      -->   Split(Conv(x, [W1; W2], [b1; b2]))      same window, no groups
    MatMul(x, W1) [+ b1], MatMul(x, W2)   -->   Split(MatMul(x, [W1 W2]) [+ [b1 b2]])   Q, K and V projections
    Gemm(x, W1, b1), Gemm(x, W2, b2)      -->   Split(Gemm(x, [W1 W2], [b1 b2]))

The input is read once and the wide product fills the registers better. The Split costs a copy where its parts are
not contiguous, so convolutions are merged only up to `max_channels` each, where a kernel of its own would be starved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics

LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class MergeParallel(Pass):
    """Merge convolutions or products that read the same input."""

    name: ClassVar[str] = "merge-parallel"
    max_channels: int = 64

    def run(self, graph: Graph, statistics: Statistics) -> None:
        for value in list(graph.values()):
            groups: dict[tuple, list[Node]] = {}
            for node in value.users:
                reason = self.reason_against(node, value)
                statistics.tried[self.name] += 1
                if self.name in statistics.explain and node.is_op(*LAYERS):
                    statistics.attempts.append(Attempt.at(node, self.name, reason))
                if not reason:
                    groups.setdefault(_kind(node), []).append(node)
            for nodes in groups.values():
                if len(nodes) > 1:
                    _merge(graph, value, nodes, self.name)
                    statistics.fired[self.name] += 1
        graph.remove_unused_constants()

    def reason_against(self, node: Node, value: Value) -> str:
        """Why the layer is left alone; empty when it may be merged with others like it."""
        if not node.is_op(*LAYERS) or node.input(0) is not value or node.graph is not value.graph:
            return "it is not a layer on this input"
        weights, bias = node.input(1), node.input(2)
        if weights is None or weights.constant is None or not weights.dtype.is_float:
            return "its weights are not constant floats"
        if len(weights.users) > 1:
            return "its weights are shared"
        if bias is not None and (bias.constant is None or bias.constant.ndim != 1):
            return "its bias is not one number per channel"
        if node.op_type == "Conv":
            if node.int("group", 1) != 1:
                return "it has groups"
            if weights.constant.shape[0] > self.max_channels:
                return f"it has more than {self.max_channels} channels"
            return ""
        if weights.constant.ndim != 2:
            return "its weights are not a matrix"
        plain = node.float("alpha", 1.0) == 1.0 and node.float("beta", 1.0) == 1.0
        if not plain or node.int("transA") or node.int("transB"):
            return "it is not a plain product"
        return ""


def _kind(node: Node) -> tuple:
    """Layers of one kind can be merged."""
    weights, bias = node.input(1), node.input(2)
    assert weights is not None and weights.constant is not None
    window = weights.constant.shape[1:] if node.op_type == "Conv" else weights.constant.shape[:1]
    attributes = tuple(sorted((k, v) for k, v in node.attributes.items() if k != "kernel_shape"))
    return (node.op_type, window, attributes, bias is None, _shift(node) is None, weights.dtype)


def _shift(node: Node) -> Node | None:
    """The addition of one number per channel that alone reads a MatMul; None without one."""
    users = node.output.users
    if (
        node.op_type != "MatMul"
        or node.output.is_graph_output
        or len(users) != 1
        or not users[0].is_op("Add")
    ):
        return None
    (user,) = users
    bias = _added(user, node)
    channels = node.input(1).static_shape[-1:]  # type: ignore[union-attr]
    return (
        user if bias is not None and bias.constant is not None and bias.constant.shape == channels else None
    )


def _added(addition: Node, layer: Node) -> Value | None:
    """What is added to the output of `layer`."""
    first, second = addition.inputs
    return second if first is layer.output else first


def _merge(graph: Graph, value: Value, nodes: list[Node], rule: str) -> None:
    order = {node: number for number, node in enumerate(graph.nodes)}
    nodes = sorted(nodes, key=order.__getitem__)
    first, shifts = nodes[0], [_shift(node) for node in nodes]
    build = Builder(graph, first, first.origin.merged(rule, [*nodes, *(s for s in shifts if s is not None)]))
    axis = 0 if first.op_type == "Conv" else 1
    weights = [_data(node, 1) for node in nodes]
    operands = [value, build.const(np.concatenate(weights, axis=axis), name=f"{first.name}.merged")]
    if first.input(2) is not None:
        operands.append(_joined(build, [node.input(2) for node in nodes], first))
    wide = build.op(first.op_type, *operands, name=f"{first.name}.merged", **first.attributes)
    if shifts[0] is not None:
        biases = [_added(shift, node) for shift, node in zip(shifts, nodes, strict=True) if shift is not None]
        wide = build.op("Add", wide, _joined(build, biases, first))
    sizes = [w.shape[axis] for w in weights]
    channel = 1 if first.op_type == "Conv" else (wide.rank or 2) - 1
    parts = build.ops("Split", wide, build.shape(sizes, "split"), outputs=len(nodes), axis=channel)
    for node, shift, part in zip(nodes, shifts, parts, strict=True):
        for old in (shift, node) if shift is not None else (node,):
            old.output.replace_uses(part)
            graph.remove(old)


def _data(node: Node, index: int) -> np.ndarray:
    """The constant operand `index`."""
    value = node.input(index)
    assert value is not None and value.constant is not None
    return value.constant


def _joined(build: Builder, biases: list[Value | None], first: Node) -> Value:
    data = [bias.constant for bias in biases if bias is not None and bias.constant is not None]
    return build.const(np.concatenate(data), name=f"{first.name}.merged_bias")
