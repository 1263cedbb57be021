"""Convolution and matrix product on quantised tensors: ConvInteger, QLinearConv, QLinearMatMul.

    total = sum((x - x_zero_point) * (w - w_zero_point))
    y = saturate(round(total * x_scale * w_scale / y_scale + y_zero_point))

The total is int32, and requantised in float64. Rounding is to nearest, ties to even, with the zero point added.
Results are those of `onnx.reference` to the bit.
"""

from __future__ import annotations

from tvm import te

from graphopt.ir import DType, Node
from graphopt.targets.lower import convolution
from graphopt.targets.lower.arithmetic import clamp, round_half_even
from graphopt.targets.lower.matmul import product
from graphopt.targets.lower.quantization import integer_range, rounded_to
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    dtype_of,
    shape_of,
    storage,
    widen,
)
from graphopt.targets.lower.windows import window_of


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
    bounded = clamp(value, float(low), float(high))
    return round_half_even(bounded).astype("int32").astype(storage(dtype))


def _minus(x: Expr, zero: Expr | None) -> Expr:
    value = x.astype("int32")
    return value if zero is None else value - zero.astype("int32")


def _one(tensor: te.Tensor) -> Expr:
    return tensor(*(0 for _ in tensor.shape))


def _for_channel(tensor: te.Tensor, channel: Expr) -> Expr:
    return tensor(channel) if shape_of(tensor) not in ((), (1,)) else _one(tensor)


LOWERINGS: dict[str, Lowering] = {
    "ConvInteger": conv_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
