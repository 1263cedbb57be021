"""The operators of `graphopt.quant` as tensor expressions: sums in int32 of bytes without their zero points, and their
requantisation in fixed point.

They serve what no template does; images in blocks are unpacked and packed again.
"""

from __future__ import annotations

from functools import partial

from tvm import te, tirx

from graphopt.ir import QUANT, DType, Node
from graphopt.ir.layout import blocked_of
from graphopt.targets.fixed_point import high_product, narrow, shifted_left
from graphopt.targets.lower import convolution, pooling
from graphopt.targets.lower.arithmetic import clamp
from graphopt.targets.lower.blocked import on_plain
from graphopt.targets.lower.matmul import product
from graphopt.targets.lower.reduction import kept, reduce_over
from graphopt.targets.lower.tensors import Expr, Lowering, broadcast_read, required, shape_of
from graphopt.targets.requantize import BYTES


def conv(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """See `passes/lower_integer.py`; ConvTranspose alike."""
    lowering = convolution.LOWERINGS[node.op_type]
    made = lowering(node, [_centred(required(inputs, 0), node.int("x_zero_point")), *inputs[1:]])
    assert isinstance(made, te.Tensor)
    return made


def matmul(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """numpy's matmul; the bias, if there is one, runs along the columns."""
    a = _centred(required(inputs, 0), node.int("a_zero_point"))
    b = _centred(required(inputs, 1), node.int("b_zero_point"))
    y = product(a, b, node.output.static_shape, "int32")
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None:
        return y
    return te.compute(y.shape, lambda *i: y(*i) + bias(i[-1]), name="bias")


def lookup(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The entry of a table for each byte, whose bits count as a number without sign."""
    x, table = required(inputs, 0), required(inputs, 1)
    return te.compute(
        x.shape, lambda *i: table(tirx.reinterpret("uint8", x(*i)).astype("int32")), name="lookup"
    )


def sum_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Sums over the taps of a pool that are inside the image."""
    return pooling.sum_pool(node, [_centred(required(inputs, 0), node.int("x_zero_point"))])


def requantize(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """See `passes/requantize_fixed.py`."""
    x = required(inputs, 0)

    def element(*i: Expr) -> Expr:
        return requantized(node, *(None if t is None else broadcast_read(t, i) for t in inputs))

    return te.compute(shape_of(x), element, name="requantize")


def requantized(node: Node, x: Expr | None, multiplier: Expr | None, shift: Expr | None = None) -> Expr:
    """One element of a Requantize; where its result is int32 it fits, or is cut."""
    assert x is not None and multiplier is not None
    dtype, is_cut = node.output.dtype, node.attr("low") is not None
    if shift is not None:
        x = shifted_left(x, shift, saturate=not node.int("fits"))
    scaled = high_product(x, multiplier)
    if dtype is DType.int32:
        moved = scaled + node.int("zero_point")
        return clamp(moved, node.int("low"), node.int("high")) if is_cut else moved
    within = BYTES[dtype.label]
    low, high = node.int("low", within[0]), node.int("high", within[1])
    return narrow(scaled, node.int("zero_point"), low, high, dtype.label)


def softmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """See `passes/fixed_softmax.py`."""
    x, table = required(inputs, 0), required(inputs, 1)
    shape, axes = shape_of(x), (node.int("axis"),)
    along = partial(reduce_over, shape, axes, keepdims=True, dtype="int32")
    peak = along(lambda *i: x(*i).astype("int32"), te.max, name="peak")
    powers = te.compute(shape, lambda *i: table(peak(*kept(i, axes)) - x(*i).astype("int32")), name="powers")
    total = along(lambda *i: powers(*i), te.sum, name="total")
    steps, zero = node.int("steps"), node.int("zero_point")
    dtype = node.output.dtype.label

    def share(*i: Expr) -> Expr:
        whole = total(*kept(i, axes))
        quotient = tirx.truncdiv(powers(*i) * steps + tirx.shift_right(whole, tirx.const(1, "int32")), whole)
        return clamp(quotient + zero, *BYTES[dtype]).astype(dtype)

    return te.compute(shape, share, name="softmax")


def _centred(x: te.Tensor, zero: int) -> te.Tensor:
    return te.compute(x.shape, lambda *i: x(*i).astype("int32") - zero, name="centred")


def _in_blocks_too(lowering: Lowering) -> Lowering:
    through_plain = on_plain(lowering)

    def lower(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor | list[te.Tensor]:
        blocked = blocked_of(node.output.type) is not None
        return (through_plain if blocked else lowering)(node, inputs)

    return lower


LOWERINGS: dict[str, Lowering] = {
    f"{QUANT}::Conv": _in_blocks_too(conv),
    f"{QUANT}::ConvTranspose": _in_blocks_too(conv),
    f"{QUANT}::Lookup": lookup,
    f"{QUANT}::MatMul": matmul,
    f"{QUANT}::Requantize": requantize,
    f"{QUANT}::Softmax": softmax,
    f"{QUANT}::SumPool": _in_blocks_too(sum_pool),
}
