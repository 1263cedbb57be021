"""Operators on blocked images, as tensor expressions: Pack, Unpack, and whatever no template serves.

The latter are unpacked, computed on plain tensors and packed again.
"""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import KERNEL, Node, TensorType
from graphopt.ir.layout import blocked_of, plain_node, plain_type
from graphopt.targets.lower import convolution, pooling
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of


def pack(x: te.Tensor, type: TensorType) -> te.Tensor:
    """A plain image in the blocks of `type`; lanes beyond the last channel are zero."""
    layout = blocked_of(type)
    assert layout is not None
    block, channels = layout.block, layout.channels

    def element(n: Expr, c: Expr, *rest: Expr) -> Expr:
        *pixel, lane = rest
        channel = c * block + lane
        if channels % block == 0:
            return x(n, channel, *pixel)
        return tirx.if_then_else(channel < channels, x(n, channel, *pixel), tirx.const(0, dtype_of(x)))

    return te.compute(type.static_shape, element, name="pack")


def unpack(x: te.Tensor, type: TensorType) -> te.Tensor:
    """The plain image behind the blocks of `type`."""
    layout = blocked_of(type)
    assert layout is not None
    block = layout.block
    return te.compute(
        plain_type(type).static_shape,
        lambda n, c, *pixel: x(n, tirx.indexdiv(c, block), *pixel, tirx.indexmod(c, block)),
        name="unpack",
    )


def _pack(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    assert inputs[0] is not None and node.output.type is not None
    return pack(inputs[0], node.output.type)


def _unpack(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = node.input(0)
    assert inputs[0] is not None and x is not None and x.type is not None
    return unpack(inputs[0], x.type)


def on_plain(lowering: Lowering) -> Lowering:
    """`lowering` of the plain operator between an unpack and a pack."""

    def lower(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
        plain = []
        for value, tensor in zip(node.inputs, inputs, strict=True):
            blocked = value is not None and tensor is not None and blocked_of(value.type) is not None
            plain.append(unpack(tensor, value.type) if blocked else tensor)  # type: ignore[arg-type,union-attr]
        made = lowering(plain_node(node), plain)
        assert node.output.type is not None
        return pack(made[0] if isinstance(made, list) else made, node.output.type)

    return lower


LOWERINGS: dict[str, Lowering] = {
    f"{KERNEL}::Pack": _pack,
    f"{KERNEL}::Unpack": _unpack,
    f"{KERNEL}::Conv": on_plain(convolution.conv),
    f"{KERNEL}::ConvTranspose": on_plain(convolution.conv_transpose),
    **{f"{KERNEL}::{name}": on_plain(pooling.LOWERINGS[name]) for name in pooling.BLOCKED},
}
