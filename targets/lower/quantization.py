"""Quantisation: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear and the operators on quantised tensors.

    q = saturate(round(x / scale) + zero_point)        x = (q - zero_point) * scale

Rounding is to nearest, ties to even, before the zero point is added; the operators that requantise their int32 sums
(QLinearConv, QLinearMatMul) round the sum with the zero point, in float64. Results are those of `onnx.reference`
to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Node
from graphopt.targets.lower import convolution
from graphopt.targets.lower.arithmetic import round_half_even
from graphopt.targets.lower.conversion import convert
from graphopt.targets.lower.matmul import product
from graphopt.targets.lower.narrow import decode, encode
from graphopt.targets.lower.reduction import largest, reduce_over, smallest
from graphopt.targets.lower.support import NARROW, where
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    dtype_of,
    normalise_axis,
    shape_of,
    storage,
    widen,
)
from graphopt.targets.lower.windows import window_of

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
    x = _present(inputs, 0)
    scale, zero = _parameter(node, inputs, 1), _parameter(node, inputs, 2)
    assert scale is not None

    def element(*i: Expr) -> Expr:
        return quantized(node, x(*i), scale(i), zero(i) if zero else None)

    return te.compute(shape_of(x), element, name="quantize")


def quantized(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    """One element of a QuantizeLinear."""
    source, scale_type, target = node.inputs[0], node.inputs[1], node.output.dtype
    assert source is not None and scale_type is not None
    if scale_type.dtype.is_integer:
        raise UnsupportedError(f"a scale of {scale_type.dtype}", where=where(node))
    divided = DType.of(node.int("precision") or _promoted(source.dtype, scale_type.dtype))
    dividend = convert(x, source.dtype, divided)
    divisor = convert(scale, scale_type.dtype, divided)
    quotient = rounded_to(widen(dividend) / widen(divisor), divided)
    if target.is_float:
        return encode(quotient, target, saturate=bool(node.int("saturate", 1)))
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
    kind = dtype_of(rounded)
    cut = tirx.max(
        tirx.min(rounded, tirx.const(float(high + reach), kind)), tirx.const(float(low - reach), kind)
    )
    total = cut.astype("int32")
    if zero is not None:
        total = total + decode_integer(zero, dtype)
    limited = tirx.max(tirx.min(total, tirx.const(high, "int32")), tirx.const(low, "int32"))
    return limited.astype(storage(dtype))


def decode_integer(code: Expr, dtype: DType) -> Expr:
    """An element of an integer type as int32."""
    return (decode(code, dtype) if dtype in NARROW else code).astype("int32")


def dequantize_linear(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x of an integer or a narrow float type -> the type of the scale or of `output_dtype`, by way of float32."""
    x = _present(inputs, 0)
    scale, zero = _parameter(node, inputs, 1), _parameter(node, inputs, 2)
    assert scale is not None

    def element(*i: Expr) -> Expr:
        return dequantized(node, x(*i), scale(i), zero(i) if zero else None)

    return te.compute(shape_of(x), element, name="dequantize")


def dequantized(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    """One element of a DequantizeLinear."""
    source, scale_type, target = node.inputs[0], node.inputs[1], node.output.dtype
    assert source is not None and scale_type is not None
    if source.dtype.is_float:
        value = decode(x, source.dtype)
    else:
        value = decode_integer(x, source.dtype)
        if zero is not None:
            value = value - decode_integer(zero, source.dtype)
        value = value.astype("float32")
    factor = convert(scale, scale_type.dtype, DType.float32)
    return convert(value * factor, DType.float32, target)


def _parameter(node: Node, inputs: list[te.Tensor | None], index: int) -> Parameter | None:
    """The scale or zero point of an element: one for all, one for each place on `axis`, or one for a block."""
    tensor = inputs[index] if index < len(inputs) else None
    x = _present(inputs, 0)
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


def _promoted(x: DType, scale: DType) -> DType:
    """The type numpy divides `x / scale` in."""
    if DType.bfloat16 in (x, scale) and x is not scale:
        return DType.float32
    return DType.of(np.result_type(x.numpy, scale.numpy))


def dynamic_quantize_linear(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    """x float32 -> y uint8, its scale and its zero point, so that the range of x and zero fit exactly."""
    x = _present(inputs, 0)
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
        return tirx.Select(tirx.EQ(span, zero), tirx.const(1.0, "float32"), span) / tirx.const(
            255.0, "float32"
        )

    scale = te.compute((), width, name="scale")

    def origin(*i: Expr) -> Expr:
        exact = zero - tirx.min(low(), zero) / scale()
        bounded = tirx.max(tirx.min(exact, tirx.const(255.0, "float32")), zero)
        return round_half_even(bounded).astype("uint8")

    zero_point = te.compute((), origin, name="zero_point")
    y = te.compute(
        shape,
        lambda *i: saturated(round_half_even(x(*i) / scale()), zero_point(), DType.uint8),
        name="quantize",
    )
    return [y, scale, zero_point]


def conv_integer(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """conv(x - x_zero_point, w - w_zero_point) in int32; the padding is worth zero."""
    x, w, x_zero, w_zero = [*inputs, None, None][:4]
    assert x is not None and w is not None
    return _integer_sums(node, x, x_zero, w, w_zero)


def qlinear_conv(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Quantised x (N, C, *spatial) and w (M, C / group, *kernel), int32 bias (M,) -> quantised (N, M, *out)."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = [*inputs, None][:9]
    assert x is not None and w is not None and x_scale is not None and w_scale is not None
    assert y_scale is not None
    sums = _integer_sums(node, x, x_zero, w, w_zero)

    def element(*i: Expr) -> Expr:
        total = sums(*i) if bias is None else sums(*i) + bias(i[1])
        factor = _one(x_scale) * _for_channel(w_scale, i[1]) / _one(y_scale)
        return _requantized(total, factor, None if y_zero is None else _one(y_zero), node.output.dtype)

    return te.compute(sums.shape, element, name="requantize")


def _integer_sums(
    node: Node, x: te.Tensor, x_zero: te.Tensor | None, w: te.Tensor, w_zero: te.Tensor | None
) -> te.Tensor:
    left = te.compute(
        x.shape, lambda *i: _minus(x(*i), None if x_zero is None else _one(x_zero)), name="centred"
    )
    right = te.compute(
        w.shape,
        lambda *i: _minus(w(*i), None if w_zero is None else _for_channel(w_zero, i[0])),
        name="centred",
    )
    window = window_of(node, shape_of(w)[2:], shape_of(x)[2:])
    return convolution.sums(left, right, window, node.int("group", 1))


def qlinear_matmul(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Quantised a (..., M, K) and b (..., K, N) -> quantised (..., M, N); the parameters broadcast as numpy does."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    assert a is not None and a_scale is not None and b is not None and b_scale is not None
    assert y_scale is not None
    left, right = _broadcast_centred(a, a_zero), _broadcast_centred(b, b_zero)
    sums = product(left, right, node.output.static_shape, "int32")
    kind = DType[dtype_of(a_scale)]

    def element(*i: Expr) -> Expr:
        both = rounded_to(widen(broadcast_read(a_scale, i)) * widen(broadcast_read(b_scale, i)), kind)
        factor = rounded_to(both / widen(broadcast_read(y_scale, i)), kind)
        zero = None if y_zero is None else broadcast_read(y_zero, i)
        return _requantized(sums(*i), factor, zero, node.output.dtype)

    return te.compute(sums.shape, element, name="requantize")


def _broadcast_centred(x: te.Tensor, zero: te.Tensor | None) -> te.Tensor:
    return te.compute(
        x.shape, lambda *i: _minus(x(*i), None if zero is None else broadcast_read(zero, i)), name="centred"
    )


def _requantized(total: Expr, factor: Expr, zero: Expr | None, dtype: DType) -> Expr:
    """saturate(round(total * factor + zero))."""
    low, high = integer_range(dtype)
    value = total.astype("float64") * factor.astype("float64")
    if zero is not None:
        value = value + zero.astype("float64")
    bounded = tirx.max(tirx.min(value, tirx.const(float(high), "float64")), tirx.const(float(low), "float64"))
    return round_half_even(bounded).astype("int32").astype(storage(dtype))


def _minus(x: Expr, zero: Expr | None) -> Expr:
    value = x.astype("int32")
    return value if zero is None else value - zero.astype("int32")


def _one(tensor: te.Tensor) -> Expr:
    return tensor(*(0 for _ in tensor.shape))


def _for_channel(tensor: te.Tensor, channel: Expr) -> Expr:
    return tensor(channel) if shape_of(tensor) not in ((), (1,)) else _one(tensor)


def _present(inputs: list[te.Tensor | None], index: int) -> te.Tensor:
    tensor = inputs[index]
    assert tensor is not None
    return tensor


LOWERINGS: dict[str, Lowering] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear,
}
