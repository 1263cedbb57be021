"""Convolutions and pools on images in blocks; functions of `assign_layout`.

Each makes the blocked counterpart of a node before it, and says why where it does not.
"""

from __future__ import annotations

from graphopt.ir import KERNEL, QUANT, Node
from graphopt.passes.algebra import reduced_axes
from graphopt.passes.blocked_twins import LAST_TO_FIRST, Twins


def convolution(node: Node, twins: Twins) -> str:
    """Of floats; its input may stay plain."""
    x, weights = node.input(0), node.input(1)
    assert x is not None and weights is not None
    if weights.constant is None or any(v is not None and v.constant is None for v in node.inputs[2:]):
        return "its weights are not constant"
    if not twins.is_image(x) or x.rank not in LAST_TO_FIRST:
        return "its input is no static image of one or two dimensions"
    groups, channels, kernel = node.int("group", 1), x.static_shape[1], weights.constant.shape[2:]
    transposed = node.op_type == "ConvTranspose"
    made = weights.constant.shape[1 if transposed else 0]
    if 2 * made < twins.block:
        return f"{made} channels would leave most lanes empty"
    if transposed and (groups > 1 or not _every_output_meets_a_tap(node, kernel)):
        return "it is transposed in groups, or some outputs meet no tap"
    build = twins.builder(node)
    if groups == 1 and not twins.is_channels_last:
        source = twins.blocks.get(x) or twins.channels_last(x, build) or x
    elif _go_by_blocks(groups, channels, made, twins):
        source = twins.twin(x, build)
    else:
        return "its groups are not whole blocks"
    attributes = {**node.attributes, "kernel_shape": kernel}
    twins.make(node, build, node.op_type, source, *node.inputs[1:], **attributes)
    return ""


def integer_convolution(node: Node, twins: Twins) -> str:
    """See the contract in `lower_integer`."""
    x, weights = node.input(0), node.input(1)
    assert x is not None and weights is not None and weights.constant is not None
    if not node.output.is_static or x.rank not in LAST_TO_FIRST:
        return "its input is no static image of one or two dimensions"
    groups, channels, kernel = node.int("group", 1), x.static_shape[1], weights.constant.shape[2:]
    made = node.output.static_shape[1]
    if node.op_type == "ConvTranspose" and (groups > 1 or not _every_output_meets_a_tap(node, kernel)):
        return "it is transposed in groups, or some outputs meet no tap"
    build = twins.builder(node)
    if groups == 1:
        source = twins.few_channels(x, build) or twins.twin(x, build)
    elif _go_by_blocks(groups, channels, made, twins):
        source = twins.twin(x, build)
    else:
        return "its groups are not whole blocks"
    attributes = {**node.attributes, "kernel_shape": kernel}
    twins.make(node, build, node.op_type, source, *node.inputs[1:], domain=QUANT, **attributes)
    return ""


def _go_by_blocks(groups: int, channels: int, made: int, twins: Twins) -> bool:
    """Groups are single channels, or whole blocks of what is read and of what is made."""
    whole = twins.has_whole_blocks(channels, groups) and twins.has_whole_blocks(made, groups)
    return groups == channels == made or whole


def _every_output_meets_a_tap(node: Node, kernel: tuple[int, ...]) -> bool:
    """Of a transposed convolution."""
    strides, dilations = node.ints("strides") or (1,), node.ints("dilations") or (1,)
    return max(dilations) == 1 and all(k >= s for k, s in zip(kernel, strides, strict=False))


def pool(node: Node, twins: Twins) -> str:
    """One window over all is a global pool; a sum of dequantised numbers keeps its order, row by row."""
    x = node.input(0)
    assert x is not None
    if x not in twins.blocks or x.rank not in LAST_TO_FIRST:
        return "its input is not in blocks"
    ordered = (
        node.op_type == "AveragePool" and x.producer is not None and x.producer.is_op("DequantizeLinear")
    )
    if _sees_all(node, x.static_shape[2:]) and not ordered:
        twins.make(node, twins.builder(node), f"Global{node.op_type}", twins.blocks[x])
    else:
        twins.make(node, twins.builder(node), node.op_type, twins.blocks[x], **node.attributes)
    return ""


def sum_pool(node: Node, twins: Twins) -> str:
    """Of bytes, in int32."""
    x = node.input(0)
    assert x is not None
    if x not in twins.blocks or x.rank not in LAST_TO_FIRST:
        return "its input is not in blocks"
    twins.make(node, twins.builder(node), "SumPool", twins.blocks[x], domain=QUANT, **node.attributes)
    return ""


def _sees_all(node: Node, image: tuple[int, ...]) -> bool:
    """One window, which covers the image and nothing beyond."""
    unpadded = node.str("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(node.ints("pads") or ())
    return unpadded and node.ints("kernel_shape") == image


def mean(node: Node, twins: Twins) -> str:
    """The mean over all pixels is a global pool."""
    x = node.input(0)
    assert x is not None
    if x not in twins.blocks or x.rank not in LAST_TO_FIRST:
        return "its input is not in blocks"
    if reduced_axes(node) != tuple(range(2, x.rank)):
        return "it is not over all pixels"
    build = twins.builder(node)
    pooled = x.type.with_shape((*x.static_shape[:2], *(1,) * (x.rank - 2)))  # type: ignore[union-attr]
    types = (twins.type_of(pooled),)
    (made,) = build.ops("GlobalAveragePool", twins.blocks[x], outputs=1, domain=KERNEL, types=types)
    if node.int("keepdims", 1):
        twins.blocks[node.output] = made
    else:
        plain = twins.unpacked(build, made, pooled)
        twins.plain[node.output] = build.op("Reshape", plain, build.shape(node.output.static_shape))
    return ""
