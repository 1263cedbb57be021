"""What is known of quantised values: how they are dequantised, how large their sums may become.

A DequantizeLinear with one scale makes `(x - z) s`; one of constant weights has a scale for each output channel, or one
for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir import QUANT, DType, Node, Value

EXACT = float(1 << 24)
"""Integers below are exact in float32."""

LARGEST_SUM = float((1 << 31) - 1)
"""Of int32."""

SAME_SCALE = 2.0**-22
"""Relative: the scale of a bias is the product of two, rounded to float32 by whoever wrote the model."""

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MEANS = ("GlobalAveragePool", "ReduceMean")
CARRIERS = frozenset("Flatten MaxPool Relu Reshape Squeeze Transpose Unsqueeze".split())
"""They commute with a multiplication by a positive number: each element of the result is one of the first operand,
or zero, and the order of elements is kept."""

BYTES = (DType.int8, DType.uint8)

IMAGES = (*BYTES, DType.int16)
"""What images of a quantised model are kept in."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Dequantized:
    """`(x - zero_point) * scale` with one scale, a number in float32."""

    x: Value
    scale: np.ndarray
    zero_point: int

    @property
    def reach(self) -> float:
        """The largest magnitude that x may have, with its zero point or without."""
        return _reach(self.x.dtype, self.zero_point)


@dataclass(frozen=True)
class Weights:
    """`integers * scale`: numbers without their zero points, a scale for each place on an axis or one for all."""

    integers: np.ndarray
    scale: np.ndarray


def limits(dtype: DType) -> Range | None:
    """The range of an integer type of 8 or 16 bits."""
    if dtype not in (DType.int8, DType.uint8, DType.int16, DType.uint16):
        return None
    low = -(1 << (dtype.bits - 1)) if dtype in (DType.int8, DType.int16) else 0
    return float(low), float(low + (1 << dtype.bits) - 1)


def dequantized(value: Value) -> Dequantized | None:
    """How `value` is dequantised, if it is, from 8 or 16 bits and with one scale."""
    node = value.producer
    if node is None or not node.is_op("DequantizeLinear"):
        return None
    x, scale, zero = node.input(0), node.input(1), node.input(2)
    assert x is not None and scale is not None
    factor, origin = scale.scalar(), 0 if zero is None else zero.scalar()
    if x.type is None or limits(x.dtype) is None or origin is None or factor is None or not factor > 0:
        return None
    if scale.dtype is not DType.float32 or node.output.dtype is not DType.float32:
        return None
    return Dequantized(x, np.asarray([factor], np.float32), int(origin))


def weights_of(node: Node, axis: int) -> Weights | None:
    """What a DequantizeLinear of a constant makes, with one scale or one for each place on `axis`."""
    x, scale, zero = node.input(0), node.input(1), node.input(2)
    if x is None or scale is None or x.constant is None or scale.constant is None or node.int("block_size"):
        return None
    if not x.dtype.is_integer or x.dtype.bits > 32 or scale.dtype is not DType.float32:
        return None
    if (zero is not None and zero.constant is None) or not (scale.constant > 0).all():
        return None
    rank, factors = x.constant.ndim, scale.constant.reshape(-1)
    integers = x.constant.astype(np.int64)
    place = node.int("axis", 1)
    if factors.size > 1 and (place - axis) % max(rank, 1) != 0:
        return None
    if zero is not None and zero.constant is not None:
        origin = zero.constant.astype(np.int64)
        if origin.size > 1:
            origin = origin.reshape([-1 if i == place % rank else 1 for i in range(rank)])
        integers = integers - origin
    return Weights(integers, factors)


def same_scale(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two scales, or rows of them, are the same up to rounding."""
    if first.size not in (1, second.size) and second.size != 1:
        return False
    return bool(np.all(np.abs(first.astype(np.float64) / second - 1) <= SAME_SCALE))


def weight_axis(node: Node) -> int:
    """The axis of the output channels in the weights."""
    if node.op_type == "Gemm":
        return 0 if node.int("transB") else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1)


def filter_reach(node: Node, weights: np.ndarray) -> np.ndarray:
    """For each output channel the sum of magnitudes: what it makes at most of inputs up to one."""
    by_channel = np.moveaxis(np.abs(weights).astype(np.float64), weight_axis(node), 0)
    if node.op_type == "MatMul":
        return by_channel.sum(axis=-1).reshape(by_channel.shape[0], -1).max(axis=1, initial=0.0)
    return by_channel.reshape(by_channel.shape[0], -1).sum(axis=1)


def sum_reach(value: Value) -> np.ndarray:
    """The largest magnitude of sums in int32 that an operator of `graphopt.quant` makes, as it broadcasts against them.

    Sums that nothing is known of may be as large as int32.
    """
    node = value.producer
    whole = np.array(LARGEST_SUM)
    if node is None or node.domain != QUANT or node.op_type not in ("Conv", "ConvTranspose", "MatMul"):
        return whole
    x, weights, bias = node.input(0), node.input(1), node.input(2)
    assert x is not None and weights is not None
    is_product = node.op_type == "MatMul"
    reach = _reach(x.dtype, node.int("a_zero_point" if is_product else "x_zero_point"))
    if weights.constant is None:
        depth = x.static_shape[-1] if x.is_static else math.inf
        return np.minimum(whole, reach * _reach(weights.dtype, node.int("b_zero_point")) * depth)
    sums = reach * filter_reach(node, weights.constant.astype(np.int64))
    if node.op_type == "ConvTranspose" and node.int("group", 1) != 1:
        sums = sums.max(initial=0.0)
    if bias is not None:
        sums = sums + (LARGEST_SUM if bias.constant is None else np.abs(bias.constant.astype(np.float64)))
    spatial = 0 if is_product else (value.rank or 2) - 2
    return np.minimum(whole, sums if sums.size == 1 else sums.reshape(-1, *(1,) * spatial))


def _reach(dtype: DType, zero_point: int) -> float:
    low, high = limits(dtype) or (-math.inf, math.inf)
    return max(abs(n) for n in (low, high, low - zero_point, high - zero_point))


def holds_integers(value: Value) -> bool:
    """Whether a float32 value is known to be integers, or a mean of such, rounded once."""
    if value.constant is not None:
        return np.array_equal(value.constant, np.rint(value.constant))
    node = value.producer
    if node is None or node.domain or value.type is None or value.dtype is not DType.float32:
        return False
    operands = [v for v in node.inputs if v is not None]
    if node.op_type == "Cast":
        return operands[0].dtype.is_integer
    if node.op_type == "DequantizeLinear":
        return operands[0].dtype.is_integer and operands[1].scalar() == 1
    if node.op_type in ("Add", "Sub"):
        return all(map(holds_integers, operands))
    return node.op_type in {*MEANS, *CARRIERS} and holds_integers(operands[0])
