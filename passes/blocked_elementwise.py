"""Element-wise operators on images in blocks, conversions, requantisation, concatenation; functions of `assign_layout`.

Each makes the blocked counterpart of a node before it, and says why where it does not.
"""

from __future__ import annotations

from graphopt.ir import QUANT, DType, Node, Value
from graphopt.passes.blocked_twins import Twins, is_image
from graphopt.passes.integers import IMAGES

STORED = (DType.float32, DType.int32, *IMAGES)
"""What images are kept in, besides the type that convolutions compute in."""


def elementwise(node: Node, twins: Twins) -> str:
    shape = node.output.static_shape
    operands = [v for v in node.inputs if v is not None]
    if not any(v in twins.blocks and v.static_shape == shape for v in operands):
        return "no operand of the result's shape is in blocks"
    if any(_unsuited(v, shape, twins) for v in operands):
        return "an operand cannot be rearranged"
    build = twins.builder(node)
    arranged = [None if v is None else twins.arranged(v, shape, build) for v in node.inputs]
    twins.adopt(node.output, build.op(node.op_type, *arranged, **node.attributes))
    return ""


def _unsuited(value: Value, shape: tuple[int, ...], twins: Twins) -> bool:
    """Neither a constant, nor in blocks, nor worth packing."""
    if value.constant is not None:
        return value.constant.ndim > len(shape)
    return value not in twins.blocks and (not twins.is_image(value) or value.static_shape[1] != shape[1])


def conversion(node: Node, twins: Twins) -> str:
    if not is_image(node.output, (*STORED, twins.dtype)):
        return "its result is no static image of floats or integers"
    if any(v is not None and v.scalar() is None for v in node.inputs[1:]):
        return "it has a scale for each channel"
    return elementwise(node, twins)


def lookup(node: Node, twins: Twins) -> str:
    x, table = node.inputs
    assert x is not None
    if x not in twins.blocks:
        return "its input is not in blocks"
    twins.make(node, twins.builder(node), "Lookup", twins.blocks[x], table, domain=QUANT)
    return ""


def requantization(node: Node, twins: Twins) -> str:
    x, *constants = node.inputs
    assert x is not None
    if x not in twins.blocks:
        return "its input is not in blocks"
    build = twins.builder(node)
    arranged = [None if v is None else twins.arranged(v, x.static_shape, build) for v in constants]
    twins.make(node, build, "Requantize", twins.blocks[x], *arranged, domain=QUANT, **node.attributes)
    return ""


def concat(node: Node, twins: Twins) -> str:
    operands = [v for v in node.inputs if v is not None]
    axis = node.int("axis") % (operands[0].rank or 1)
    if any(v not in twins.blocks for v in operands) or axis == 0:
        return "an operand is not in blocks"
    if axis == 1 and not all(twins.has_whole_blocks(v.static_shape[1]) for v in operands):
        return "an operand's channels are not whole blocks"
    if axis == 1 and twins.is_channels_last:
        axis = operands[0].rank or 0
    build = twins.builder(node)
    made = build.op("Concat", *(twins.blocks[v] for v in operands), axis=axis)
    twins.adopt(node.output, made)
    return ""
