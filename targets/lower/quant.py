"""The operators of `graphopt.quant` as tensor expressions: sums in int32 of bytes without their zero points.

They serve what no template does; images in blocks are unpacked and packed again.
"""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import QUANT, Node
from graphopt.ir.layout import blocked_of
from graphopt.targets.lower import convolution
from graphopt.targets.lower.blocked import on_plain
from graphopt.targets.lower.matmul import product
from graphopt.targets.lower.tensors import Lowering, required


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
}
