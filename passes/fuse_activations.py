"""An activation into the kernel of the convolution, product, pool or normalisation before it.

    Relu(Conv(x, W, b))   -->   Fused{Conv, Relu}(x, W, b)

The result is a fused group; export takes it apart again. The activation is applied while the sums are still in
registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import body_of, fuse_nodes, is_fused
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics

ACTIVATIONS = frozenset(
    "Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Sigmoid Softplus Swish Tanh".split()
)

ANCHORS = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose Gemm GlobalAveragePool GlobalMaxPool "
    "InstanceNormalization LayerNormalization MatMul MaxPool RMSNormalization".split()
)


@dataclass(frozen=True)
class FuseActivations(Pass):
    """Put activations into the group of the operator before them."""

    name: ClassVar[str] = "fuse-activations"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        for node in graph.nodes:
            if not node.is_op(*ACTIVATIONS):
                continue
            reason = self.reason_against(node)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if not reason:
                producer = node.inputs[0].producer if node.inputs[0] else None
                assert producer is not None
                group = fuse_nodes(graph, [producer, node])
                group.origin = group.origin.merged(self.name, [group])
                statistics.fired[self.name] += 1
        graph.remove_unused_constants()

    def reason_against(self, node: Node) -> str:
        """Why the activation stays on its own; empty when it is fused."""
        source = node.inputs[0]
        if source is None or source.producer is None:
            return "it works on a graph input"
        if not anchored(source.producer):
            return f"'{source.producer.name}' ({source.producer.key}) is not an anchor"
        if needed_elsewhere(source):
            return f"'{source.name}' is needed elsewhere too"
        if node.output.shape != source.shape:
            return "its slopes change the shape"
        return ""


def anchored(node: Node) -> bool:
    """An anchor, or a group that begins with one."""
    if is_fused(node):
        return any(member.is_op(*ANCHORS) for member in body_of(node).nodes)
    return node.is_op(*ANCHORS)


def needed_elsewhere(value: Value) -> bool:
    """Whether more than one node reads what the producer of `value` makes, or the graph returns it."""
    assert value.producer is not None
    outputs = value.producer.outputs
    readers = {use.node for output in outputs for use in output.uses}
    return len(readers) > 1 or any(output.is_graph_output for output in outputs)
