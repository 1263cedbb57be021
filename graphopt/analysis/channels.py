"""Which axis of a value has the channels.

That is axis 1 of what a convolution, a pool or a normalisation over channels reads or writes, and the last axis around
matrix products, recurrences and normalisations of rows. Values in between (activations, sums) have it where their
neighbours have it.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.ir import Graph, Node, Value

SECOND = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose GlobalAveragePool GlobalMaxPool GroupNormalization "
    "InstanceNormalization LRN LpPool MaxPool PRelu QLinearConv".split()
)
"""Operators whose first operand and result have channels on axis 1."""

LAST = frozenset("GRU Gemm LSTM LayerNormalization MatMul RMSNormalization RNN".split())
"""Those whose operands and results have them on the last axis."""

KEEPS_AXES = frozenset(
    "Abs Add Celu Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Max Min Mish Mul Neg Pow Relu Selu "
    "Sigmoid Sin Softmax Softplus Sqrt Sub Swish Tanh QuantizeLinear DequantizeLinear Identity Cast".split()
)
"""What leaves every element at its place, up to broadcasting."""


def channel_axes(graph: Graph) -> dict[Value, int]:
    """The axis of each value that has one; of values read in two ways, that of the producer or of the first reader."""
    axes: dict[Value, int] = {}
    waiting: list[Value] = []

    def tell(value: Value | None, axis: int) -> None:
        if value is not None and value not in axes and value.constant is None and (value.rank or 0) > 1:
            axes[value] = axis
            waiting.append(value)

    for node in graph.nodes:
        for value in node.outputs:
            if node.is_op(*SECOND):
                tell(value, 1)
            elif node.is_op(*LAST):
                tell(value, (value.rank or 1) - 1)
    for node in graph.nodes:
        if node.is_op(*SECOND):
            tell(node.inputs[0], 1)
        elif node.is_op(*LAST):
            tell(node.inputs[0], (getattr(node.inputs[0], "rank", 1) or 1) - 1)
    while waiting:
        value = waiting.pop(0)
        for other, axis in _neighbours(value, axes[value]):
            tell(other, axis)
    return axes


def _neighbours(value: Value, axis: int) -> Iterator[tuple[Value, int]]:
    """Values of the same rank with the same elements along an axis: that of `axis` of `value`."""
    nodes: list[Node] = [*value.users, *([value.producer] if value.producer else [])]
    for node in nodes:
        if node.is_op(*KEEPS_AXES):
            around = (*node.inputs, *node.outputs)
            yield from ((other, axis) for other in around if other is not None and other.rank == value.rank)
        elif node.is_op("Transpose"):
            order = node.ints("perm", tuple(range(value.rank or 0))[::-1]) or ()
            if value is node.output and node.inputs[0] is not None:
                yield node.inputs[0], order[axis]
            else:
                yield node.output, order.index(axis)
