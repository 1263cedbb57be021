"""Blocked counterparts of values: who has one, and how it is made.

`Twins` is what the modules of `assign_layout` share. A value gets a twin when an operator makes one in blocks, or when
a kernel wants it packed; whoever is left reads the plain value, unpacked once.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import KERNEL, DType, Graph, Node, TensorType, Value
from graphopt.ir.layout import Blocked, blocked_of, blocked_type, to_blocks
from graphopt.passes.sink_transposes import permutation_of
from graphopt.rewrite import Builder

FEW_CHANNELS = 8
"""At most so many are read as one block of their own by a convolution of bytes."""

ALL_CHANNELS = 0
"""The size of a block that stands for one block of all channels: channels-last."""

LAST_TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""Permutations from channels-last to channels-first, by rank."""


class Twins:
    """`blocks` leads from plain values to their blocked counterparts, `plain` to what was made for them instead.

    Images of floats in `dtype` are what convolutions compute on. A block has `block` channels, in an image with no
    more than `narrow` channels so many; where `block` is `ALL_CHANNELS`, each image has one block.
    """

    def __init__(self, graph: Graph, block: int, narrow: int, dtype: DType, rule: str) -> None:
        self.graph = graph
        self.block = block
        self.narrow = narrow
        self.dtype = dtype
        self.rule = rule
        self.blocks: dict[Value, Value] = {}
        self.plain: dict[Value, Value] = {}
        self._few: dict[Value, Value] = {}

    def is_image(self, value: Value) -> bool:
        """A static image of floats."""
        return is_image(value, (DType.float32, self.dtype))

    @property
    def is_channels_last(self) -> bool:
        return self.block == ALL_CHANNELS

    def has_whole_blocks(self, channels: int, groups: int = 1) -> bool:
        """Of each group; of single channels, where all are in one block."""
        return self.is_channels_last or channels % (groups * self.block) == 0

    def block_of(self, channels: int) -> int:
        """Channels in a block of an image that has so many."""
        if self.is_channels_last:
            return channels
        return self.narrow if channels <= self.narrow else self.block

    # --- making ---

    def builder(self, node: Node) -> Builder:
        """Of what takes the place of `node`."""
        return Builder(self.graph, node, node.origin.merged(self.rule, [node]))

    def make(
        self,
        node: Node,
        build: Builder,
        op_type: str,
        *inputs: Value | None,
        domain: str = KERNEL,
        **attributes: object,
    ) -> None:
        """A node in blocks in place of `node`."""
        assert node.output.type is not None
        type = self.type_of(node.output.type)
        (made,) = build.ops(op_type, *inputs, outputs=1, domain=domain, types=(type,), **attributes)  # type: ignore[arg-type]
        self.adopt(node.output, made)

    def adopt(self, value: Value, made: Value) -> None:
        """`made` is `value` in blocks."""
        assert value.type is not None
        made.type = self.type_of(value.type)
        self.blocks[value] = made

    def twin(self, value: Value, build: Builder) -> Value:
        """The blocked counterpart of any image, packed if need be."""
        if value not in self.blocks:
            assert value.type is not None
            type = self.type_of(value.type)
            seen = self._as_it_lies(value, type, build)
            self.blocks[value] = seen or build.ops("Pack", value, outputs=1, domain=KERNEL, types=(type,))[0]
        return self.blocks[value]

    def _as_it_lies(self, value: Value, type: TensorType, build: Builder) -> Value | None:
        """`value` as one block of all channels, where its elements lie in that order: there is one channel or one
        pixel, or they came channels-last; None: they lie otherwise, or blocks are narrower."""
        if not self.is_channels_last:
            return None
        if is_line(value.static_shape):
            return self._seen(value, type, build)
        return self.channels_last(value, build)

    def few_channels(self, x: Value, build: Builder) -> Value | None:
        """`x` in one block of its channels, unless it is in blocks or has too many of them."""
        channels = x.static_shape[1]
        if self.is_channels_last or x in self.blocks or channels > FEW_CHANNELS:
            return None
        if x not in self._few:
            assert x.type is not None
            type = blocked_type(x.type, channels)
            seen = self._seen(x, type, build) if channels == 1 else self.channels_last(x, build)
            self._few[x] = seen or build.ops("Pack", x, outputs=1, domain=KERNEL, types=(type,))[0]
        return self._few[x]

    def arranged(self, value: Value, shape: tuple[int, ...], build: Builder) -> Value:
        """An operand as it broadcasts against blocks of an image of `shape`."""
        if value.constant is None:
            return self.twin(value, build)
        if value.constant.size == 1:
            return value
        data = value.constant.reshape((1,) * (len(shape) - value.constant.ndim) + value.constant.shape)
        if data.shape[1] == 1:
            return build.const(data[..., np.newaxis], name=value.name)
        block = self.block_of(data.shape[1])
        constant = build.const(to_blocks(data, block), name=value.name)
        assert constant.type is not None
        label = Blocked(data.shape[1], block, data.ndim - 2).label
        constant.type = TensorType(constant.type.dtype, constant.type.shape, label)
        return constant

    def type_of(self, plain: TensorType) -> TensorType:
        """An image's in blocks."""
        return blocked_type(plain, self.block_of(plain.static_shape[1]))

    @classmethod
    def channels_last(cls, value: Value, build: Builder) -> Value | None:
        """The source of a Transpose from channels-last, seen as one block of all channels."""
        order = permutation_of(value)
        if order is None or order != LAST_TO_FIRST.get(len(order)):
            return None
        assert value.producer is not None and value.type is not None
        source = value.producer.input(0)
        assert source is not None
        return cls._seen(source, blocked_type(value.type, value.static_shape[1]), build)

    @staticmethod
    def _seen(value: Value, type: TensorType, build: Builder) -> Value:
        """The same elements in the same order, as what they are in blocks."""
        seen = build.op("Reshape", value, build.shape(type.static_shape))
        seen.type = type
        return seen

    def _unpacked_behind(self, value: Value) -> Value:
        """The plain counterpart of what a node made, right behind it."""
        assert value.type is not None and value.producer is not None
        build = Builder(self.graph, value.producer.next, value.producer.origin)
        return self.unpacked(build, self.blocks[value], value.type)

    @staticmethod
    def unpacked(build: Builder, twin: Value, type: TensorType) -> Value:
        """The plain counterpart of `twin`."""
        layout = blocked_of(twin.type)
        assert layout is not None
        shape = type.static_shape
        is_pixel = all(dim == 1 for dim in shape[2:]) and layout.channels % layout.block == 0
        if is_pixel or (layout.block == layout.channels and is_line(shape)):
            plain = build.op("Reshape", twin, build.shape(shape))
        else:
            (plain,) = build.ops("Unpack", twin, outputs=1, domain=KERNEL, types=(type,))
        plain.type = type
        return plain

    # --- the rest of the graph ---

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
                if value in self.blocks or value in self.plain:
                    self._rename(self.blocks.get(value) or self.plain[value], *old)

    def _rename(self, made: Value, node_name: str, value_name: str) -> None:
        """What takes the place of a node keeps its name, so that a report speaks of what the user knows."""
        assert made.producer is not None
        self.graph.rename_node(made.producer, node_name, keep_if_taken=True)
        self.graph.rename(made, value_name, keep_if_taken=True)


def is_line(shape: tuple[int, ...]) -> bool:
    """An image of one channel, or of one pixel: its elements lie in one order, whichever axis comes last."""
    return shape[1] == 1 or all(dim == 1 for dim in shape[2:])


def is_image(value: Value, stored: tuple[DType, ...]) -> bool:
    """A static image with elements of one of the types `stored`."""
    return value.is_static and (value.rank or 0) >= 3 and value.dtype in stored
