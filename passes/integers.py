"""Integers kept in float32: where values are known to be such, how large they may become, and how they get there.

A DequantizeLinear with one scale makes `(x - z) s`. Up to 2^24 float32 holds every integer, so that sums and products
within that range are exact, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.rewrite import Builder

EXACT = float(1 << 24)
"""Integers below are exact in float32."""

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MEANS = ("GlobalAveragePool", "ReduceMean")
CARRIERS = frozenset("Flatten MaxPool Relu Reshape Squeeze Transpose Unsqueeze".split())
"""They commute with a multiplication by a positive number: each element of the result is one of the first operand,
or zero, and the order of elements is kept."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Dequantized:
    """`integers * scale`. `integers` of a constant are its numbers without the zero point; `reach` bounds those of
    any value."""

    scale: np.ndarray
    integers: np.ndarray
    reach: float


def reach(known: Range) -> float:
    """The largest magnitude."""
    return max(abs(known[0]), abs(known[1]))


def limits(dtype: DType) -> Range | None:
    """The range of an integer type of 8 or 16 bits."""
    if dtype not in (DType.int8, DType.uint8, DType.int16, DType.uint16):
        return None
    low = -(1 << (dtype.bits - 1)) if dtype in (DType.int8, DType.int16) else 0
    return float(low), float(low + (1 << dtype.bits) - 1)


def constant_of(node: Node, axis: int) -> Dequantized | None:
    """What a DequantizeLinear of a constant makes, with one scale or one for each place on `axis`."""
    x, scale, zero = node.input(0), node.input(1), node.input(2)
    if x is None or scale is None or x.constant is None or scale.constant is None or node.int("block_size"):
        return None
    if not x.dtype.is_integer or x.dtype.bits > 32 or scale.dtype is not DType.float32:
        return None
    if (zero is not None and zero.constant is None) or not (scale.constant > 0).all():
        return None
    rank, factors = x.constant.ndim, scale.constant.reshape(-1)
    integers = x.constant.astype(np.float64)
    place = node.int("axis", 1)
    if factors.size > 1 and (place - axis) % max(rank, 1) != 0:
        return None
    if zero is not None and zero.constant is not None:
        origin = zero.constant.astype(np.float64)
        if origin.size > 1:
            origin = origin.reshape([-1 if i == place % rank else 1 for i in range(rank)])
        integers = integers - origin
    return Dequantized(factors, integers, float(np.abs(integers).max(initial=0.0)))


def dequantized(value: Value) -> Dequantized | None:
    """How `value` is dequantised: with one scale, behind carriers that nobody else reads; None when it is not."""
    node = value.producer
    while node is not None and node.op_type in CARRIERS and not node.domain:
        if len(node.outputs) != 1 or len(node.output.uses) + node.output.is_graph_output != 1:
            return None
        source = node.input(0)
        node = None if source is None else source.producer
    if node is None or not node.is_op("DequantizeLinear"):
        return None
    x, scale, zero = node.input(0), node.input(1), node.input(2)
    assert x is not None and scale is not None
    known, factor = limits(x.dtype), scale.scalar()
    origin = 0 if zero is None else zero.scalar()
    if known is None or origin is None or factor is None or not factor > 0:
        return None
    if scale.dtype is not DType.float32 or node.output.dtype is not DType.float32:
        return None
    far = reach((known[0] - float(origin), known[1] - float(origin)))
    return Dequantized(np.asarray([factor], np.float32), np.empty(0), far)


def centred(build: Builder, value: Value) -> Value:
    """`value`, which is `dequantized`, without its scale."""
    node = value.producer
    assert node is not None
    if node.op_type in CARRIERS:
        source = node.input(0)
        assert source is not None
        return build.op(node.op_type, centred(build, source), *node.inputs[1:], **node.attributes)
    x, zero = node.input(0), node.input(2)
    floats = build.op("Cast", x, to=DType.float32.onnx_code)
    if zero is None or zero.scalar() == 0:
        return floats
    return build.op("Sub", floats, build.const(np.float32(zero.scalar()), name=zero.name))


def weight_axis(node: Node) -> int:
    """The axis of the output channels in the weights."""
    if node.op_type == "Gemm":
        return 0 if node.int("transB") else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1)


def filter_reach(node: Node, weights: np.ndarray) -> np.ndarray:
    """For each output channel the sum of magnitudes: what it makes at most of inputs up to one."""
    by_channel = np.moveaxis(np.abs(weights), weight_axis(node), 0)
    if node.op_type == "MatMul":
        return by_channel.sum(axis=-1).reshape(by_channel.shape[0], -1).max(axis=1, initial=0.0)
    return by_channel.reshape(by_channel.shape[0], -1).sum(axis=1)


def range_of(value: Value) -> Range | None:
    """Bounds of a float32 value that is known to be integers, or their sum or mean rounded once; None otherwise."""
    if value.constant is not None:
        data = value.constant.astype(np.float64)
        if not data.size or not np.array_equal(data, np.rint(data)):
            return None
        return float(data.min()), float(data.max())
    node = value.producer
    if node is None or node.domain or value.type is None or value.dtype is not DType.float32:
        return None
    operands = [v for v in node.inputs if v is not None]
    if node.op_type == "Cast":
        return limits(operands[0].dtype)
    if node.op_type not in {*PRODUCTS, *MEANS, *CARRIERS, "Add", "Sub"}:
        return None
    if node.op_type in PRODUCTS:
        return _range_of_product(node, operands)
    first = range_of(operands[0])
    if first is None or node.op_type in CARRIERS or node.op_type in MEANS:
        return first
    second = range_of(operands[1])
    if second is None:
        return None
    low, high = second if node.op_type == "Add" else (-second[1], -second[0])
    return first[0] + low, first[1] + high


def _range_of_product(node: Node, operands: list[Value]) -> Range | None:
    if operands[1].constant is None or node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1:
        return None
    known = [range_of(v) for v in operands]
    if any(k is None for k in known):
        return None
    largest = reach(known[0]) * float(filter_reach(node, operands[1].constant).max(initial=0.0))  # type: ignore[arg-type]
    largest += reach(known[2]) if len(known) > 2 else 0.0  # type: ignore[arg-type]
    return (-largest, largest) if largest < EXACT else None
