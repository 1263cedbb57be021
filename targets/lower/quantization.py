"""Quantisation: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.

    q = saturate(round(x / scale) + zero_point)        x = (q - zero_point) * scale

Rounding is to nearest, ties to even, before the zero point is added. Results are those of `onnx.reference` to the
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Node
from graphopt.targets.lower.arithmetic import clamp, like, round_half_even
from graphopt.targets.lower.conversion import convert
from graphopt.targets.lower.narrow import decode, encode
from graphopt.targets.lower.reducers import largest, smallest
from graphopt.targets.lower.reduction import reduce_over
from graphopt.targets.lower.support import NARROW, where
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    dtype_of,
    normalise_axis,
    required,
    shape_of,
    storage,
    widen,
)
from graphopt.targets.requantize import BYTES, SHORT, to_byte, to_short

Parameter = Callable[[Sequence[Expr]], Expr]
"""From the indices of an element to its scale or zero point."""


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    if dtype.label.startswith("uint"):
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def quantize_linear(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x of a float type or int32 -> the type of the zero point or of `output_dtype`.

    The quotient is rounded to the type `precision` names, by default the wider of those of x and the scale. Raises
    UnsupportedError for a scale that is an integer.
    """
    return _by_element(node, inputs, quantized, "quantize")


def quantized(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    """One element of a QuantizeLinear."""
    (source, scale_type), target = _operand_types(node), node.output.dtype
    if scale_type.is_integer:
        raise UnsupportedError(f"a scale of {scale_type}", where=where(node))
    divided = DType.of(node.int("precision") or _promoted(source, scale_type))
    dividend = convert(x, source, divided)
    divisor = convert(scale, scale_type, divided)
    quotient = rounded_to(widen(dividend) / widen(divisor), divided)
    if target.is_float:
        return encode(quotient, target, saturate=bool(node.int("saturate", 1)))
    if target.label in BYTES and dtype_of(quotient) == "float32":
        return to_byte(quotient, zero, storage(target))
    origin = node.input(2)
    if target.label in SHORT and dtype_of(quotient) == "float32" and (origin is None or origin.scalar() == 0):
        return to_short(quotient)
    return saturated(round_half_even(quotient), zero, target)


def rounded_to(x: Expr, dtype: DType) -> Expr:
    """A float32 rounded to a 16-bit float type, as float32 again; anything else as it is.

    bfloat16 is written out: a cast there and back is taken for nothing while TVM lowers that type.
    """
    if dtype is DType.float16:
        return x.astype("float16").astype("float32")
    if dtype is not DType.bfloat16:
        return x
    bits = tirx.reinterpret("uint32", x)
    even = (bits >> tirx.const(16, "uint32")) & tirx.const(1, "uint32")
    carried = bits + tirx.const(0x7FFF, "uint32") + even
    return tirx.reinterpret("float32", carried & tirx.const(0xFFFF0000, "uint32"))


def saturated(rounded: Expr, zero: Expr | None, dtype: DType) -> Expr:
    """rounded + zero within the range of `dtype`; `rounded` is a float without fraction.

    What is far out of range is cut while it is a float: its conversion to an integer would not be defined.
    """
    low, high = integer_range(dtype)
    reach = high - low
    total = clamp(rounded, float(low - reach), float(high + reach)).astype("int32")
    if zero is not None:
        total = total + decode_integer(zero, dtype)
    return clamp(total, low, high).astype(storage(dtype))


def decode_integer(code: Expr, dtype: DType) -> Expr:
    """An element of an integer type as int32."""
    return (decode(code, dtype) if dtype in NARROW else code).astype("int32")


def dequantize_linear(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x of an integer or a narrow float type -> the type of the scale or of `output_dtype`, by way of float32."""
    return _by_element(node, inputs, dequantized, "dequantize")


def dequantized(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    """One element of a DequantizeLinear."""
    source, scale_type = _operand_types(node)
    if source.is_float:
        value = decode(x, source)
    else:
        value = decode_integer(x, source)
        if zero is not None:
            value = value - decode_integer(zero, source)
        value = value.astype("float32")
    factor = convert(scale, scale_type, DType.float32)
    return convert(value * factor, DType.float32, node.output.dtype)


def _by_element(
    node: Node, inputs: list[te.Tensor | None], function: Callable[..., Expr], name: str
) -> te.Tensor:
    """`function(node, x, scale, zero)` of every element of x with its scale and zero point."""
    x = required(inputs, 0)
    scale, zero = _parameter(node, inputs, 1), _parameter(node, inputs, 2)
    assert scale is not None

    def element(*i: Expr) -> Expr:
        return function(node, x(*i), scale(i), zero(i) if zero else None)

    return te.compute(shape_of(x), element, name=name)


def _parameter(node: Node, inputs: list[te.Tensor | None], index: int) -> Parameter | None:
    """The scale or zero point of an element: one for all, one for each place on `axis`, or one for a block."""
    tensor = inputs[index] if index < len(inputs) else None
    x = required(inputs, 0)
    if tensor is None:
        return None
    shape = shape_of(tensor)
    if all(dim == 1 for dim in shape):
        return lambda i: tensor(*(0 for _ in shape))
    axis = normalise_axis(node.int("axis", 1), len(x.shape))
    size = node.int("block_size")
    if not size:
        return lambda i: tensor(i[axis])
    return lambda i: tensor(*i[:axis], tirx.indexdiv(i[axis], size), *i[axis + 1 :])


def _operand_types(node: Node) -> tuple[DType, DType]:
    """The types of x and of its scale."""
    x, scale = node.inputs[:2]
    assert x is not None and scale is not None
    return x.dtype, scale.dtype


def _promoted(x: DType, scale: DType) -> DType:
    """The type numpy divides `x / scale` in."""
    if DType.bfloat16 in (x, scale) and x is not scale:
        return DType.float32
    return DType.of(np.result_type(x.numpy, scale.numpy))


def dynamic_quantize_linear(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    """x float32 -> y uint8, its scale and its zero point, so that the range of x and zero fit exactly."""
    x = required(inputs, 0)
    shape = shape_of(x)
    zero = tirx.const(0.0, "float32")
    high, low = (
        reduce_over(
            shape, range(len(shape)), lambda *i: x(*i), combine, keepdims=False, dtype="float32", name=name
        )
        for combine, name in ((largest, "highest"), (smallest, "lowest"))
    )

    def width(*i: Expr) -> Expr:
        span = tirx.max(high(), zero) - tirx.min(low(), zero)
        return tirx.Select(tirx.EQ(span, zero), like(1.0, span), span) / like(255.0, span)

    scale = te.compute((), width, name="scale")

    def origin(*i: Expr) -> Expr:
        exact = zero - tirx.min(low(), zero) / scale()
        return round_half_even(clamp(exact, 0.0, 255.0)).astype("uint8")

    zero_point = te.compute((), origin, name="zero_point")
    y = te.compute(
        shape,
        lambda *i: saturated(round_half_even(x(*i) / scale()), zero_point(), DType.uint8),
        name="quantize",
    )
    return [y, scale, zero_point]


LOWERINGS: dict[str, Lowering] = {
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "QuantizeLinear": quantize_linear,
}
