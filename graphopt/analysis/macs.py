"""Arithmetic of an operator: multiply-accumulates and floating-point operations.

A MAC is one product added to a sum, as in `sum_k a[i, k] * b[k, j]`: convolutions, matrix products, recurrences
and attention have them, nothing else does. A convolution counts every tap of every output element, padding
included, as the field's tables do. A FLOP is one arithmetic operation on one element: two for a MAC, one for an
element-wise operator whatever it costs (exp counts as add does), the window for a pool. Moving data is free. The
operators of `graphopt.kernel` and `graphopt.quant` count as their namesakes do on plain tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from graphopt.errors import IRError
from graphopt.ir import KERNEL, ONNX, QUANT, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.ir.layout import blocked_of, plain_node

MOVES = frozenset(
    "BitCast Cast CastLike CenterCropPad Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape "
    "DepthToSpace Dropout Expand EyeLike Flatten Gather GatherElements GatherND Identity NonZero OneHot Pack Pad "
    "Range Reshape ReverseSequence Scatter ScatterElements ScatterND SequenceAt SequenceConstruct Shape Size "
    "Slice SpaceToDepth Split SplitToSequence Squeeze TensorScatter Tile Transpose Trilu Unpack "
    "Unsqueeze Upsample".split()
)
"""Operators without arithmetic."""

FIXED_POINT = ("Requantize", "Softmax", "SumPool")
"""Operators of `graphopt.quant` that count as their ONNX namesakes, or one operation an element."""

NORMALIZATION_FLOPS = {
    "BatchNormalization": 2,  # scale and shift
    "GroupNormalization": 7,
    "InstanceNormalization": 7,  # sum, difference, square, sum, product, scale, shift
    "LayerNormalization": 7,
    "LogSoftmax": 5,
    "LpNormalization": 3,
    "MeanVarianceNormalization": 5,
    "RMSNormalization": 4,  # square, sum, product, scale
    "Softmax": 5,  # maximum, difference, exponential, sum, quotient
}
"""Operations per input element."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Matrix products of a recurrent cell, each with the input and with the state."""


def macs(node: Node) -> int | None:
    """Multiply-accumulates of one execution of `node`; None when a dimension it needs is a symbol.

    A fused group counts what is inside; If, Loop and Scan are None, for what they run is not known.
    """
    try:
        if is_fused(node):
            return total(macs(member) for member in body_of(node).nodes)
        if node.subgraphs:
            return None
        return _macs(_plain(node))
    except IRError:  # a shape that is not static
        return None


def flops(node: Node) -> int | None:
    """Arithmetic operations of one execution of `node`; None when a dimension it needs is a symbol."""
    try:
        if is_fused(node):
            return total(flops(member) for member in body_of(node).nodes)
        products = macs(node)
        return None if products is None else 2 * products + _other_flops(_plain(node))
    except IRError:
        return None


def _plain(node: Node) -> Node:
    """An operator on blocks as the one on plain tensors: the lanes that fill the last block up do not count."""
    blocked = any(v is not None and blocked_of(v.type) for v in (*node.inputs, *node.outputs))
    return plain_node(node) if blocked and node.domain in (KERNEL, QUANT) else node


def _macs(node: Node) -> int:
    if node.domain == KERNEL and node.op_type in GATES:
        return _recurrent_macs(node)
    if node.domain not in (ONNX, KERNEL, QUANT):
        return 0
    if node.domain == QUANT and node.op_type in GATES:
        return math.prod(_shape(node.input(0))[:2]) * _size(node.input(1))
    match node.op_type:
        case "Conv" | "ConvInteger" | "DeformConv":
            return _size(node.output) * _taps(node, 1)
        case "QLinearConv":
            return _size(node.output) * _taps(node, 3)
        case "ConvTranspose":  # each input element meets every tap
            return _size(node.input(0)) * _taps(node, 1)
        case "Gemm":
            inner = _shape(node.input(0))[0 if node.int("transA") else 1]
            return _size(node.output) * inner
        case "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return _size(node.output) * _shape(node.input(0))[-1]
        case "LSTM" | "GRU" | "RNN":
            return _recurrent_macs(node)
        case "Attention":
            return _attention_macs(node)
        case "Einsum":
            return _einsum_macs(node)
    return 0


def _taps(node: Node, weights: int) -> int:
    """Elements of one filter: weights are [M, C/group, k...] (transposed: [C, M/group, k...])."""
    return math.prod(_shape(node.input(weights))[1:])


def _recurrent_macs(node: Node) -> int:
    """X is [T, B, I] (layout 1: [B, T, I]), W [directions, ...], R [directions, gates*H, H].

    R packed for a kernel is [directions, tiles, H, gates, lanes].
    """
    first, second, width = _shape(node.input(0))
    hidden = _shape(node.input(2))[2]
    rows = _shape(node.input(1))[0] * GATES[node.op_type] * hidden
    return first * second * rows * (width + hidden)


def _attention_macs(node: Node) -> int:
    """Q K^T, then the weights times V. Q is [B, Hq, L, E], or [B, L, Hq*E]; keys and values likewise.

    Earlier keys and values (inputs 4 and 5) are attended to as well.
    """
    query, key, value = (_shape(node.input(index)) for index in range(3))
    past = node.input(4)
    keys = key[-2] + (0 if past is None else _shape(past)[-2])
    if len(query) == 4:
        batch, heads, queries, width = query
        return batch * heads * queries * keys * (width + value[-1])
    batch, queries, columns = query
    heads = node.int("q_num_heads", 1)
    value_width = value[-1] // node.int("kv_num_heads", heads)
    return batch * queries * keys * (columns + heads * value_width)


def _einsum_macs(node: Node) -> int:
    """The size of the index space, once for each product of two operands (no order is assumed)."""
    if len(node.inputs) < 2:
        return 0
    terms = node.str("equation").replace(" ", "").split("->")[0].split(",")
    extent: dict[str, int] = {}
    for term, value in zip(terms, node.inputs, strict=True):
        shape = _shape(value)
        labels = re.findall(r"\.\.\.|[A-Za-z]", term)
        covered = len(shape) - sum(label != "..." for label in labels)
        dims = list(shape)
        for label in labels:
            if label == "...":
                for axis in range(-covered, 0):  # aligned at the right, as broadcasting is
                    extent[f"...{axis}"] = max(extent.get(f"...{axis}", 1), dims[axis + covered])
                dims = dims[covered:]
            else:
                extent[label] = max(extent.get(label, 1), dims.pop(0))
    return math.prod(extent.values()) * (len(node.inputs) - 1)


def _other_flops(node: Node) -> int:
    """Everything but the products. The element-wise work of recurrent gates and attention is left out."""
    op = node.op_type
    if (
        node.domain not in (ONNX, KERNEL, QUANT)
        or op in MOVES
        or op in GATES
        or op in ("Attention", "Einsum")
    ):
        return 0
    if op in ("Conv", "ConvTranspose", "Gemm") or (node.domain == QUANT and op not in FIXED_POINT):
        return 0 if node.input(2) is None else _size(node.output)  # the bias
    if op in ("ConvInteger", "MatMul", "MatMulInteger"):
        return 0
    if op in ("AveragePool", "MaxPool", "LpPool", "SumPool"):
        return _size(node.output) * math.prod(node.ints("kernel_shape", ()) or ())
    if op in NORMALIZATION_FLOPS:
        return _size(node.input(0)) * NORMALIZATION_FLOPS[op]
    if op == "LRN":
        return _size(node.input(0)) * (2 * node.int("size", 1) + 3)
    if op.startswith(("Reduce", "Global", "Arg", "Cum")):
        return _size(node.input(0))
    if op in ("Sum", "Mean", "Max", "Min"):
        return _size(node.output) * max(len(node.inputs) - 1, 1)
    return _size(node.output)


def total(counts: Iterable[int | None]) -> int | None:
    """The sum; None when a part is unknown."""
    known = 0
    for count in counts:
        if count is None:
            return None
        known += count
    return known


def _size(value: Value | None) -> int:
    return math.prod(_shape(value))


def _shape(value: Value | None) -> tuple[int, ...]:
    """Raises IRError when it is not static, or left out."""
    if value is None:
        raise IRError("a needed input is left out")
    return value.static_shape
