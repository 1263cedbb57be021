"""Operators on stacks of samples: `operator(node, arrays, which are stacks)`, or None where it cannot.

A stack has the samples along its first axis and the axes of the graph's value behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from graphopt.ir import Node
from graphopt.runtime.reference import evaluate_node
from graphopt.runtime.stacked_conv import conv_by_taps

Arrays = Sequence[np.ndarray | None]
Flags = Sequence[bool]
Result = list[np.ndarray] | None
Operator = Callable[[Node, Arrays, Flags], Result]


def _first(arrays: Arrays) -> np.ndarray:
    assert arrays[0] is not None
    return arrays[0]


def evaluated(node: Node, arrays: Arrays) -> list[np.ndarray]:
    """The results of the reference. Floats may stand in for the integers that the graph declares."""
    results = evaluate_node(node, arrays, as_declared=False)
    return [r.astype(np.float32) if r.dtype == np.float64 else r for r in results]


def _unary(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """Element by element from the first operand; the others are numbers."""
    return None if any(stacked[1:]) else evaluated(node, arrays)


def _binary(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """Element by element; ranks are made equal behind the axis of the samples."""
    given = [a for a in arrays if a is not None]
    rank = max(a.ndim + (not is_stack) for a, is_stack in zip(given, stacked, strict=True))
    aligned = [
        a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:]) if is_stack else a
        for a, is_stack in zip(given, stacked, strict=True)
    ]
    return evaluated(node, aligned)


def _batched(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """The first axis of the value is its batch: the samples join it."""
    if not stacked[0] or any(stacked[1:]):
        return None
    x = _first(arrays)
    folded = x.reshape(-1, *x.shape[2:])
    made = None
    if node.op_type == "Conv":
        weights, bias = (*arrays[1:], None)[:2]
        assert weights is not None
        made = conv_by_taps(node, folded, weights, bias)
    if made is None:
        made = evaluated(node, [folded, *arrays[1:]])[0]
    return [made.reshape(len(x), -1, *made.shape[1:])]


def _matmul(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    a, b = arrays
    assert a is not None and b is not None
    if stacked[1] and not stacked[0]:
        return None
    rank = max(a.ndim - 1, b.ndim - stacked[1])
    if a.ndim < 3 or b.ndim - stacked[1] < 2:
        return None
    a = a.reshape(a.shape[0], *(1,) * (rank + 1 - a.ndim), *a.shape[1:])
    if stacked[1]:
        b = b.reshape(b.shape[0], *(1,) * (rank + 1 - b.ndim), *b.shape[1:])
    return [a @ b]


def _gemm(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x, w, *rest = arrays
    if any(stacked[1:]) or node.int("transA"):
        return None
    assert x is not None and w is not None
    y = x @ (w.T if node.int("transB") else w) * np.float32(node.float("alpha", 1.0))
    bias = rest[0] if rest else None
    return [y if bias is None else y + bias * np.float32(node.float("beta", 1.0))]


def _reshape(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x = _first(arrays)
    return [x.reshape(len(x), *node.output.static_shape)] if stacked[0] and node.output.is_static else None


def _transpose(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x = _first(arrays)
    order = node.ints("perm", tuple(reversed(range(x.ndim - 1)))) or ()
    return [np.ascontiguousarray(x.transpose(0, *(place + 1 for place in order)))]


def _rows(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """Softmax and layer normalisation along the last axis."""
    if any(stacked[1:]) or node.int("axis", -1) not in (-1, _first(arrays).ndim - 2):
        return None
    x = _first(arrays)
    if node.op_type == "Softmax":
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return [powers / powers.sum(axis=-1, keepdims=True)]
    if len(node.outputs) > 1:
        return None
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(variance + np.float32(node.float("epsilon", 1e-5))) * arrays[1]
    return [y if len(arrays) < 3 or arrays[2] is None else y + arrays[2]]


def _reduce(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x, axes = _first(arrays), arrays[1] if len(arrays) > 1 else None
    if axes is None or axes.size == 0 or stacked[1]:
        return None
    places = tuple(int(axis) % (x.ndim - 1) + 1 for axis in axes)
    keep = bool(node.int("keepdims", 1))
    if node.op_type == "ReduceMax":
        return [x.max(axis=places, keepdims=keep)]
    total = x.mean if node.op_type == "ReduceMean" else x.sum
    return [total(axis=places, keepdims=keep)]


def _split(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x, sizes = _first(arrays), arrays[1] if len(arrays) > 1 else None
    if sizes is None:
        return None
    axis = node.int("axis") % (x.ndim - 1) + 1
    return [np.ascontiguousarray(part) for part in np.split(x, np.cumsum(sizes)[:-1], axis)]


def _concat(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    if not all(stacked):
        return None
    axis = node.int("axis") % (_first(arrays).ndim - 1) + 1
    return [np.concatenate([a for a in arrays if a is not None], axis)]


def _gather(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """Rows of a table by indices that vary, or a fixed choice of rows that vary."""
    data, indices = arrays
    assert data is not None and indices is not None
    if stacked[0] and stacked[1]:
        return None
    axis = node.int("axis")
    if stacked[0]:
        return [np.take(data, indices.astype(np.int64), axis % (data.ndim - 1) + 1)]
    return [data[indices.astype(np.int64)]] if axis == 0 else None


def _quantize(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """QuantizeLinear with one scale."""
    x, scale, zero = (*arrays, None)[:3]
    if x is None or scale is None or zero is None or scale.size > 1 or zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    y = np.rint(x / scale)
    y += zero.astype(np.float32)
    return [np.clip(y, limits.min, limits.max, out=y).astype(zero.dtype)]


def _dequantize(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    """DequantizeLinear with one scale."""
    x, scale, zero = (*arrays, None)[:3]
    if x is None or scale is None or scale.size > 1:
        return None
    y = x.astype(np.float32)
    if zero is not None:
        y -= zero.astype(np.float32)
    y *= scale
    return [y]


def _table() -> Mapping[str, Operator]:
    unary = "Abs Cast Celu Clip Elu Exp HardSigmoid HardSwish LeakyRelu Log Neg Reciprocal Relu Selu Sigmoid "
    binary = "Add Div Max Min Mul PRelu Pow Sub Where"
    batched = "AveragePool BatchNormalization Conv ConvTranspose GlobalAveragePool GlobalMaxPool MaxPool"
    return {
        **dict.fromkeys((unary + "Softplus Sqrt Tanh").split(), _unary),
        **dict.fromkeys(binary.split(), _binary),
        **dict.fromkeys(batched.split(), _batched),
        **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
        **dict.fromkeys(("LayerNormalization", "Softmax"), _rows),
        **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceSum"), _reduce),
        "Concat": _concat,
        "DequantizeLinear": _dequantize,
        "Erf": lambda node, arrays, stacked: [erf(_first(arrays))],
        "Gather": _gather,
        "Gelu": _gelu,
        "Gemm": _gemm,
        "Identity": lambda node, arrays, stacked: [_first(arrays)],
        "MatMul": _matmul,
        "QuantizeLinear": _quantize,
        "Split": _split,
        "Transpose": _transpose,
    }


def _gelu(node: Node, arrays: Arrays, stacked: Flags) -> Result:
    x = _first(arrays)
    if node.str("approximate", "none") == "tanh":
        y = x * x  # a power of 3 takes ten times as long
        y *= np.float32(0.044715)
        y += 1
        y *= x
        y *= np.float32(np.sqrt(2 / np.pi))
        np.tanh(y, out=y)
        y += 1
        y *= x
        y *= np.float32(0.5)
        return [y]
    return [np.float32(0.5) * x * (1 + erf(x * np.float32(np.sqrt(0.5))))]


def erf(x: np.ndarray) -> np.ndarray:
    """The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    return np.sign(x) * (1 - series * np.exp(-size * size))


OPERATORS = _table()
