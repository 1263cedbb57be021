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
cannot read blocks reads the plain value, unpacked once. The block is the number of lanes of the target's vectors;
convolutions and pools are converted where they compute in `dtype`, whose lanes those are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import KERNEL, QUANT, DType, Graph, Node, TensorType, Value
from graphopt.ir.layout import Blocked, blocked_of, blocked_type, to_blocks
from graphopt.onnx_io.infer import UNARY_ELEMENTWISE
from graphopt.passes.algebra import reduced_axes
from graphopt.passes.blocked_movement import flattened, parts, reshaped, resized, turned
from graphopt.passes.sink_transposes import permutation_of
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics

PRODUCTS = ("Gemm", "MatMul")
POOLS = frozenset("AveragePool GlobalAveragePool GlobalMaxPool MaxPool".split())
ELEMENTWISE = (UNARY_ELEMENTWISE - {"Dropout"}) | frozenset(
    "Add Div Max Mean Min Mul PRelu Pow Sub Sum Where".split()
)
CONVERSIONS = frozenset("Cast DequantizeLinear QuantizeLinear".split())
MOVEMENTS = {"Reshape": reshaped, "Resize": resized, "Transpose": turned}

BYTES = (DType.int8, DType.uint8)
STORED = (DType.float32, *BYTES)
"""What images are kept in, besides the type that convolutions compute in; arithmetic is on floats alone."""

ON_BYTES = frozenset({"Concat", "Max", "MaxPool", "Min", *MOVEMENTS})
"""What is done to images of bytes as they are."""

FEW_CHANNELS = (4, 8)
"""Blocks that a convolution of bytes reads where they hold all channels."""

LAST_TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""Permutations from channels-last to channels-first, by rank."""


@dataclass(frozen=True)
class AssignLayout(Pass):
    """Keep the channels of images in blocks, one vector register wide."""

    name: ClassVar[str] = "assign-layout"
    block: int = 16
    dtype: str = DType.float32.label

    def run(self, graph: Graph, statistics: Statistics) -> None:
        work = _Assignment(graph, self.block, DType[self.dtype], self.name)
        converted: list[Node] = []
        for node in list(graph.nodes):
            reason = work.convert(node)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if not reason:
                converted.append(node)
                statistics.fired[self.name] += 1
        work.settle(converted)
        graph.remove_unused_constants()


class _Assignment:
    """`twins` leads from plain values to their blocked counterparts, `plain` to what was made for them instead."""

    def __init__(self, graph: Graph, block: int, dtype: DType, rule: str) -> None:
        self.graph = graph
        self.block = block
        self.dtype = dtype
        self.rule = rule
        self.twins: dict[Value, Value] = {}
        self.plain: dict[Value, Value] = {}
        self.few: dict[Value, Value] = {}

    def convert(self, node: Node) -> str:
        """Build the blocked counterpart of `node` before it; or say why not."""
        if node.domain == QUANT:
            if node.op_type == "Lookup":
                return self._lookup(node)
            return self._product(node) if node.op_type == "MatMul" else self._integer_convolution(node)
        if node.is_op("Slice", "Split"):
            return self._parts(node)
        if node.domain or any(v.uses or v.is_graph_output for v in node.outputs[1:]):
            return "it has further results"
        if node.op_type == "ReduceMean":
            return self._mean(node)
        if node.op_type in PRODUCTS:
            return self._product(node)
        if node.op_type in CONVERSIONS:
            return self._conversion(node)
        on_bytes = bool(node.outputs) and node.op_type in ON_BYTES and _is_image(node.output, BYTES)
        if not on_bytes and (not node.outputs or not self._image(node.output)):
            return "its result is no static image of floats"
        if node.op_type in POOLS or node.op_type in ("Conv", "ConvTranspose"):
            if not on_bytes and node.output.dtype is not self.dtype:
                return f"it does not compute in {self.dtype}"
            return self._pool(node) if node.op_type in POOLS else self._convolution(node)
        if node.op_type == "Concat":
            return self._concat(node)
        if node.op_type in ELEMENTWISE:
            return self._elementwise(node)
        if node.op_type in MOVEMENTS:
            return self._movement(node)
        return "it does not work in blocks"

    def settle(self, converted: list[Node]) -> None:
        """Give the plain readers that are left what they read, and remove what was converted."""
        replaced = set(converted)
        for node in converted:
            for value in node.outputs:
                plain_users = [use for use in value.uses if use.node not in replaced]
                if plain_users or value.is_graph_output:
                    value.replace_uses(self.plain.get(value) or self._unpacked_behind(value))
        for node in reversed(converted):
            names = [(value, node.name, value.name) for value in node.outputs]
            self.graph.remove(node)
            for value, *old in names:
                if value in self.twins or value in self.plain:
                    self._rename(self.twins.get(value) or self.plain[value], *old)

    def _rename(self, made: Value, node_name: str, value_name: str) -> None:
        """What takes the place of a node keeps its name, so that a report speaks of what the user knows."""
        assert made.producer is not None
        self.graph.rename_node(made.producer, node_name, keep_if_taken=True)
        self.graph.rename(made, value_name, keep_if_taken=True)

    # --- operators ---

    def _convolution(self, node: Node) -> str:
        x, weights = node.input(0), node.input(1)
        assert x is not None and weights is not None
        if weights.constant is None or any(v is not None and v.constant is None for v in node.inputs[2:]):
            return "its weights are not constant"
        if not self._image(x) or x.rank not in LAST_TO_FIRST:
            return "its input is no static image of one or two dimensions"
        groups, channels, kernel = node.int("group", 1), x.static_shape[1], weights.constant.shape[2:]
        transposed = node.op_type == "ConvTranspose"
        made = weights.constant.shape[1 if transposed else 0]
        if 2 * made < self.block:
            return f"{made} channels would leave most lanes empty"
        if transposed and (groups > 1 or not self._every_output_meets_a_tap(node, kernel)):
            return "it is transposed in groups, or some outputs meet no tap"
        build = self._builder(node)
        if groups == 1:
            source = self.twins.get(x) or self._channels_last(x, build) or x
        elif groups == channels == made or self._whole(channels, groups) and self._whole(made, groups):
            source = self._twin(x, build)
        else:
            return "its groups are not whole blocks"
        attributes = {**node.attributes, "kernel_shape": kernel}
        self._make(node, build, node.op_type, source, *node.inputs[1:], **attributes)
        return ""

    def _integer_convolution(self, node: Node) -> str:
        x, weights = node.input(0), node.input(1)
        assert x is not None and weights is not None and weights.constant is not None
        if not node.output.is_static or x.rank not in LAST_TO_FIRST:
            return "its input is no static image of one or two dimensions"
        groups, channels, kernel = node.int("group", 1), x.static_shape[1], weights.constant.shape[2:]
        made = node.output.static_shape[1]
        if node.op_type == "ConvTranspose" and (
            groups > 1 or not self._every_output_meets_a_tap(node, kernel)
        ):
            return "it is transposed in groups, or some outputs meet no tap"
        build = self._builder(node)
        if groups == 1:
            source = self._few_channels(x, build) or self._twin(x, build)
        elif groups == channels == made or self._whole(channels, groups) and self._whole(made, groups):
            source = self._twin(x, build)
        else:
            return "its groups are not whole blocks"
        attributes = {**node.attributes, "kernel_shape": kernel}
        self._make(node, build, node.op_type, source, *node.inputs[1:], domain=QUANT, **attributes)
        return ""

    def _few_channels(self, x: Value, build: Builder) -> Value | None:
        """`x` in one small block, unless it is in blocks or has too many channels."""
        block = next((block for block in FEW_CHANNELS if x.static_shape[1] <= block), 0)
        if x in self.twins or not block:
            return None
        if x not in self.few:
            assert x.type is not None
            types = (blocked_type(x.type, block),)
            (self.few[x],) = build.ops("Pack", x, outputs=1, domain=KERNEL, types=types)
        return self.few[x]

    @staticmethod
    def _every_output_meets_a_tap(node: Node, kernel: tuple[int, ...]) -> bool:
        """Of a transposed convolution."""
        strides, dilations = node.ints("strides") or (1,), node.ints("dilations") or (1,)
        return max(dilations) == 1 and all(k >= s for k, s in zip(kernel, strides, strict=False))

    def _whole(self, channels: int, groups: int) -> bool:
        return channels % (groups * self.block) == 0

    def _pool(self, node: Node) -> str:
        """One window over all is a global pool; a sum of dequantised numbers keeps its order, row by row."""
        x = node.input(0)
        assert x is not None
        if x not in self.twins or x.rank not in LAST_TO_FIRST:
            return "its input is not in blocks"
        ordered = (
            node.op_type == "AveragePool" and x.producer is not None and x.producer.is_op("DequantizeLinear")
        )
        if self._sees_all(node, x.static_shape[2:]) and not ordered:
            self._make(node, self._builder(node), f"Global{node.op_type}", self.twins[x])
        else:
            self._make(node, self._builder(node), node.op_type, self.twins[x], **node.attributes)
        return ""

    @staticmethod
    def _sees_all(node: Node, image: tuple[int, ...]) -> bool:
        """One window, which covers the image and nothing beyond."""
        unpadded = node.str("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(node.ints("pads") or ())
        return unpadded and node.ints("kernel_shape") == image

    def _mean(self, node: Node) -> str:
        """The mean over all pixels is a global pool."""
        x = node.input(0)
        assert x is not None
        if x not in self.twins or x.rank not in LAST_TO_FIRST:
            return "its input is not in blocks"
        if reduced_axes(node) != tuple(range(2, x.rank)):
            return "it is not over all pixels"
        build = self._builder(node)
        pooled = x.type.with_shape((*x.static_shape[:2], *(1,) * (x.rank - 2)))  # type: ignore[union-attr]
        types = (blocked_type(pooled, self.block),)
        (made,) = build.ops("GlobalAveragePool", self.twins[x], outputs=1, domain=KERNEL, types=types)
        if node.int("keepdims", 1):
            self.twins[node.output] = made
        else:
            plain = self._unpacked(build, made, pooled)
            self.plain[node.output] = build.op("Reshape", plain, build.shape(node.output.static_shape))
        return ""

    def _concat(self, node: Node) -> str:
        operands = [v for v in node.inputs if v is not None]
        axis = node.int("axis") % (operands[0].rank or 1)
        if any(v not in self.twins for v in operands) or axis == 0:
            return "an operand is not in blocks"
        if axis == 1 and any(v.static_shape[1] % self.block for v in operands):
            return "an operand's channels are not whole blocks"
        build = self._builder(node)
        made = build.op("Concat", *(self.twins[v] for v in operands), axis=axis)
        self._adopt(node.output, made)
        return ""

    def _movement(self, node: Node) -> str:
        x = node.input(0)
        assert x is not None
        if x not in self.twins:
            return "its input is not in blocks"
        made = MOVEMENTS[node.op_type](node, self.twins[x], self._builder(node))
        if isinstance(made, str):
            return made
        if node.op_type == "Transpose":
            self.plain[node.output] = made
        else:
            self._adopt(node.output, made)
        return ""

    def _product(self, node: Node) -> str:
        rows = node.input(0)
        x = None if rows is None or rows.producer is None else rows.producer.input(0)
        if x is None or x not in self.twins:
            return "it does not read an image in blocks"
        made = flattened(node, self.twins[x], self._builder(node))
        if isinstance(made, str):
            return made
        self.plain[node.output] = made
        return ""

    def _parts(self, node: Node) -> str:
        x = node.input(0)
        if x is None or x not in self.twins:
            return "its input is not in blocks"
        made = parts(node, self.twins[x], self._builder(node))
        if isinstance(made, str):
            return made
        for value, part in zip(node.outputs, made, strict=True):
            self._adopt(value, part)
        return ""

    def _conversion(self, node: Node) -> str:
        if not _is_image(node.output, (*STORED, self.dtype)):
            return "its result is no static image of floats or bytes"
        if any(v is not None and v.scalar() is None for v in node.inputs[1:]):
            return "it has a scale for each channel"
        return self._elementwise(node)

    def _lookup(self, node: Node) -> str:
        x, table = node.inputs
        assert x is not None
        if x not in self.twins:
            return "its input is not in blocks"
        self._make(node, self._builder(node), "Lookup", self.twins[x], table, domain=QUANT)
        return ""

    def _elementwise(self, node: Node) -> str:
        shape = node.output.static_shape
        operands = [v for v in node.inputs if v is not None]
        if not any(v in self.twins and v.static_shape == shape for v in operands):
            return "no operand of the result's shape is in blocks"
        if any(self._unsuited(v, shape) for v in operands):
            return "an operand cannot be rearranged"
        build = self._builder(node)
        arranged = [None if v is None else self._arranged(v, shape, build) for v in node.inputs]
        self._adopt(node.output, build.op(node.op_type, *arranged, **node.attributes))
        return ""

    def _unsuited(self, value: Value, shape: tuple[int, ...]) -> bool:
        """Neither a constant, nor in blocks, nor worth packing."""
        if value.constant is not None:
            return value.constant.ndim > len(shape)
        return value not in self.twins and (not self._image(value) or value.static_shape[1] != shape[1])

    def _arranged(self, value: Value, shape: tuple[int, ...], build: Builder) -> Value:
        """An operand as it broadcasts against blocks of an image of `shape`."""
        if value.constant is None:
            return self._twin(value, build)
        if value.constant.size == 1:
            return value
        data = value.constant.reshape((1,) * (len(shape) - value.constant.ndim) + value.constant.shape)
        if data.shape[1] == 1:
            return build.const(data[..., np.newaxis], name=value.name)
        constant = build.const(to_blocks(data, self.block), name=value.name)
        assert constant.type is not None
        label = Blocked(data.shape[1], self.block, data.ndim - 2).label
        constant.type = TensorType(constant.type.dtype, constant.type.shape, label)
        return constant

    def _image(self, value: Value) -> bool:
        """A static image of floats."""
        return _is_image(value, (DType.float32, self.dtype))

    # --- building ---

    def _builder(self, node: Node) -> Builder:
        return Builder(self.graph, node, node.origin.merged(self.rule, [node]))

    def _make(
        self,
        node: Node,
        build: Builder,
        op_type: str,
        *inputs: Value | None,
        domain: str = KERNEL,
        **attributes: object,
    ) -> None:
        assert node.output.type is not None
        type = blocked_type(node.output.type, self.block)
        (made,) = build.ops(op_type, *inputs, outputs=1, domain=domain, types=(type,), **attributes)  # type: ignore[arg-type]
        self._adopt(node.output, made)

    def _adopt(self, value: Value, made: Value) -> None:
        assert value.type is not None
        made.type = blocked_type(value.type, self.block)
        self.twins[value] = made

    def _twin(self, value: Value, build: Builder) -> Value:
        """The blocked counterpart of any image, packed if need be."""
        if value not in self.twins:
            assert value.type is not None
            type = blocked_type(value.type, self.block)
            (self.twins[value],) = build.ops("Pack", value, outputs=1, domain=KERNEL, types=(type,))
        return self.twins[value]

    @staticmethod
    def _channels_last(value: Value, build: Builder) -> Value | None:
        """The source of a Transpose from channels-last, seen as one block of all channels."""
        order = permutation_of(value)
        if order is None or order != LAST_TO_FIRST.get(len(order)):
            return None
        assert value.producer is not None and value.type is not None
        source = value.producer.input(0)
        assert source is not None
        type = blocked_type(value.type, value.static_shape[1])
        seen = build.op("Reshape", source, build.shape(type.static_shape))
        seen.type = type
        return seen

    def _unpacked_behind(self, value: Value) -> Value:
        """The plain counterpart of what a node made, right behind it."""
        assert value.type is not None and value.producer is not None
        build = Builder(self.graph, value.producer.next, value.producer.origin)
        return self._unpacked(build, self.twins[value], value.type)

    @staticmethod
    def _unpacked(build: Builder, twin: Value, type: TensorType) -> Value:
        layout = blocked_of(twin.type)
        assert layout is not None
        shape = type.static_shape
        if all(dim == 1 for dim in shape[2:]) and layout.channels % layout.block == 0:
            plain = build.op("Reshape", twin, build.shape(shape))
        else:
            (plain,) = build.ops("Unpack", twin, outputs=1, domain=KERNEL, types=(type,))
        plain.type = type
        return plain


def _is_image(value: Value, stored: tuple[DType, ...]) -> bool:
    return value.is_static and (value.rank or 0) >= 3 and value.dtype in stored
