"""Blocked layouts for convolutional parts of the graph.

    Conv(x, W, b)                     -->   kernel::Conv(x, W, b)            blocked output; input blocked or plain
    quant::Conv(x, W, b)              -->   quant::Conv(x, W, b)             both in blocks; see `lower_integer`
    Conv(Transpose(x, NHWC to NCHW))  -->   kernel::Conv(Reshape(x), W, b)   channels-last is one block of all channels
    ConvTranspose(x, W, b)            -->   kernel::ConvTranspose(x, W, b)    where every output meets a tap
    MaxPool, AveragePool, ...(x)      -->   kernel::MaxPool ...(x)           in blocks
    ReduceMean(x) over all pixels     -->   kernel::GlobalAveragePool(x)       a pool of one window alike
    Relu(x), Add(x, y), Mul(x, c)     -->   the same operators on blocks     constants are rearranged
    Concat(x, y), Split(x), Slice(x)  -->   the same, parts as slices        along channels: whole blocks of them
    QuantizeLinear(x, s, z)           -->   the same operators on blocks     with one scale; DequantizeLinear, Cast
    Gemm(Reshape(x), W)               -->   Gemm(Reshape(blocks of x), W')    see `blocked_movement`; MatMul alike
    Resize, Reshape, Transpose of pixels    -->   see `blocked_movement`
    anything else                           reads kernel::Unpack(x), a Reshape where the image is one pixel

Operators of the domain `graphopt.kernel` mean what their ONNX namesakes mean; only their images are kept in blocks
(see `graphopt.ir.layout`), which their types say. A value gets a blocked twin when an operator makes one; whoever
cannot read blocks reads the plain value, unpacked once. The block is the number of lanes of the target's vectors, or
`narrow` where an image has no more channels; convolutions and pools are converted where they compute in `dtype`, whose
lanes those are. A block of 0 means one of all channels, channels-last: for cores without vectors, which go by single
channels. There an image that comes channels-last is in blocks already, and any channels may be joined or cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import QUANT, DType, Graph, Node
from graphopt.onnx_io.infer import UNARY_ELEMENTWISE
from graphopt.passes.blocked_elementwise import concat, conversion, elementwise, lookup, requantization
from graphopt.passes.blocked_movement import flattened, parts, parts_of_channels, reshaped, resized, turned
from graphopt.passes.blocked_twins import Twins, is_image
from graphopt.passes.blocked_windows import convolution, integer_convolution, mean, pool, sum_pool
from graphopt.passes.integers import IMAGES
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics

POOLS = frozenset("AveragePool GlobalAveragePool GlobalMaxPool MaxPool".split())
ELEMENTWISE = (UNARY_ELEMENTWISE - {"Dropout"}) | frozenset(
    "Add Div Max Mean Min Mul PRelu Pow Sub Sum Where".split()
)
CONVERSIONS = frozenset("Cast DequantizeLinear QuantizeLinear".split())
MOVEMENTS = {"Reshape": reshaped, "Resize": resized, "Transpose": turned}

ON_INTEGERS = frozenset({"Concat", "Max", "MaxPool", "Min", *MOVEMENTS})
"""What is done to images of integers as they are; other arithmetic is on floats alone."""

ON_SUMS = frozenset("Add Mul Neg Sub".split())
"""What is done to images of int32: see `requantize_fixed`."""


@dataclass(frozen=True)
class AssignLayout(Pass):
    """Keep the channels of images in blocks, one vector register wide."""

    name: ClassVar[str] = "assign-layout"
    block: int = 16
    narrow: int = 0
    dtype: str = DType.float32.label

    def run(self, graph: Graph, statistics: Statistics) -> None:
        work = Twins(graph, self.block, self.narrow, DType[self.dtype], self.name)
        converted: list[Node] = []
        for node in list(graph.nodes):
            reason = convert(node, work)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if not reason:
                converted.append(node)
                statistics.fired[self.name] += 1
        work.settle(converted)
        graph.remove_unused_constants()


def convert(node: Node, twins: Twins) -> str:
    """Build the blocked counterpart of `node` before it; or say why not."""
    if node.domain == QUANT:
        return (
            INTEGERS[node.op_type](node, twins) if node.op_type in INTEGERS else "it does not work in blocks"
        )
    if node.is_op("Slice", "Split"):
        return _parts(node, twins)
    if node.is_op("Transpose") and twins.is_channels_last and _came_channels_last(node, twins):
        return ""
    if node.domain or any(v.uses or v.is_graph_output for v in node.outputs[1:]):
        return "it has further results"
    if node.op_type in ALWAYS:
        return ALWAYS[node.op_type](node, twins)
    on_integers = bool(node.outputs) and node.op_type in ON_INTEGERS and is_image(node.output, IMAGES)
    if node.op_type in ON_SUMS and node.outputs and is_image(node.output, (DType.int32,)):
        return elementwise(node, twins)
    if not on_integers and (not node.outputs or not twins.is_image(node.output)):
        return "its result is no static image of floats"
    if node.op_type in POOLS or node.op_type in ("Conv", "ConvTranspose"):
        if not on_integers and node.output.dtype is not twins.dtype:
            return f"it does not compute in {twins.dtype}"
        return pool(node, twins) if node.op_type in POOLS else convolution(node, twins)
    if node.op_type == "Concat":
        return concat(node, twins)
    if node.op_type in ELEMENTWISE:
        return elementwise(node, twins)
    return _movement(node, twins) if node.op_type in MOVEMENTS else "it does not work in blocks"


def _came_channels_last(node: Node, twins: Twins) -> bool:
    """A Transpose to channels-first of what is no image in blocks yet: its source is one."""
    seen = twins.channels_last(node.output, twins.builder(node)) if node.output.is_static else None
    if seen is None:
        return False
    twins.adopt(node.output, seen)
    return True


def _movement(node: Node, twins: Twins) -> str:
    x = node.input(0)
    assert x is not None
    if x not in twins.blocks:
        return "its input is not in blocks"
    made = MOVEMENTS[node.op_type](node, twins.blocks[x], twins.builder(node))
    if isinstance(made, str):
        return made
    if node.op_type == "Transpose":
        twins.plain[node.output] = made
    else:
        twins.adopt(node.output, made)
    return ""


def _product(node: Node, twins: Twins) -> str:
    rows = node.input(0)
    x = None if rows is None or rows.producer is None else rows.producer.input(0)
    if x is None or x not in twins.blocks:
        return "it does not read an image in blocks"
    made = flattened(node, twins.blocks[x], twins.builder(node))
    if isinstance(made, str):
        return made
    twins.plain[node.output] = made
    return ""


def _parts(node: Node, twins: Twins) -> str:
    x = node.input(0)
    if x is None or x not in twins.blocks:
        return "its input is not in blocks"
    cut = parts_of_channels if twins.is_channels_last else parts
    made = cut(node, twins.blocks[x], twins.builder(node))
    if isinstance(made, str):
        return made
    for value, part in zip(node.outputs, made, strict=True):
        twins.adopt(value, part)
    return ""


Convert = Callable[[Node, Twins], str]

INTEGERS: Mapping[str, Convert] = {
    "Conv": integer_convolution,
    "ConvTranspose": integer_convolution,
    "Lookup": lookup,
    "MatMul": _product,
    "Requantize": requantization,
    "SumPool": sum_pool,
}

ALWAYS: Mapping[str, Convert] = {
    "Gemm": _product,
    "MatMul": _product,
    "ReduceMean": mean,
    **dict.fromkeys(CONVERSIONS, conversion),
}
"""Whatever their result is."""
