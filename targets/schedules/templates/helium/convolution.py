"""Convolutions of int8, channels-last, by `helium_product`: windows are pixels, or runs of bytes in a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.helium.calls import Finish, Pointer, at, call
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import (
    KINDS,
    bits_of,
    named,
    pack_product,
    product_words,
    starts,
)
from graphopt.targets.schedules.templates.helium.requantization import Blend, Tail, has_helium, values_of
from graphopt.targets.schedules.templates.helium.rest import Rest, Sums
from graphopt.targets.schedules.templates.helium.strip import Strip
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated
from graphopt.targets.schedules.templates.window import Window, window_of_image


@dataclass(frozen=True)
class HeliumConvolution:
    """`filters` from `channels`, for each of `groups`."""

    body: Graph
    anchor: Node
    operands: Operands
    window: Window
    groups: int
    channels: int
    filters: int
    tail: Tail | None
    blend: Blend | None
    bits: int

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> HeliumConvolution | None:
        anchor = anchor_of(body, target)
        if anchor is None:
            return None
        known = values_of(body, constants)
        tail = Tail.of(body, anchor.node, known)
        groups = anchor.groups
        blend = Blend.of(body, anchor.node, known) if tail is None and groups == 1 else None
        operands = Operands.of(body, anchor.node, tail or blend, known)
        if operands is None:
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        if window.is_pointwise and tail is not None and tail.added is None:
            window = window.flat()
        sizes = groups, anchor.channels // groups, anchor.made.channels // groups
        weights, bias = operands.read(known)
        rows = weights.reshape(anchor.made.channels, -1)
        bits = bits_of(rows, starts(rows, bias, anchor.node.int("x_zero_point")))
        return cls(body, anchor.node, operands, window, *sizes, tail, blend, bits)

    @property
    def name(self) -> str:
        name = "helium-convolution" if self.tail or self.blend else "helium-convolution-sums"
        return named(name, self.bits)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    @property
    def zero_point(self) -> int:
        return self.anchor.int("x_zero_point")

    @property
    def made(self) -> int:
        """Filters of all groups."""
        return self.groups * self.filters

    @property
    def is_direct(self) -> bool:
        """Windows are runs of bytes of the image itself."""
        (rows, columns), dilation = self.window.kernel, self.window.dilations[1]
        together = columns == 1 or (dilation == 1 and self.groups == 1)
        last = (self.window.result[1] - 1) * self.window.strides[1] + columns
        inside = self.window.pads == (0, 0) and last <= self.window.image[1] and not self._misses_rows
        return rows == 1 and together and inside

    @property
    def _misses_rows(self) -> bool:
        return self.window.line_exists(tirx.Var("line", "int32")) is not None

    @property
    def depth(self) -> int:
        return self.channels * self.window.taps

    @property
    def words(self) -> int:
        """Of the constants of a group."""
        return product_words(self.depth, self.filters, self.bits)

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        known = values_of(self.body, constants)
        weights, bias = self.operands.read(known)
        by_window = weights.reshape(self.made, self.channels, *self.window.kernel).transpose(0, 3, 2, 1)
        rows = by_window.reshape(self.made, self.depth)
        multipliers = self.operands.multipliers(self.tail, self.made)
        numbers = starts(rows, bias, self.zero_point), multipliers
        parts = [
            pack_product(rows[group], *(array[group] for array in numbers), bits=self.bits)
            for group in (slice(g * self.filters, (g + 1) * self.filters) for g in range(self.groups))
        ]
        parts += [] if self.blend is None else [self.blend.packed()]
        return self.operands.packed(np.concatenate(parts))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        numbers = 0 if self.blend is None else 2 * self.made
        sizes, types = self.operands.declared(self.groups * self.words + numbers)
        return build_kernel(self.body, self._emit, sizes, types)

    # --- the kernel ---

    @property
    def strip(self) -> Strip:
        step = self.groups * self.channels
        return Strip(self.window, self.channels, step, self.zero_point, self.channels)

    def _emit(self, buffers: Buffers) -> None:
        strip = None if self.is_direct else self.strip.made()
        rows, columns = self.window.result
        elements = columns * self.made
        rest: Rest | Sums
        if self.blend is not None:
            rest = Sums(self.filters)
        elif self.tail is None:
            rest = Rest(self.body, self.anchor, buffers, self.filters)
        else:
            finish = Finish(self.tail, buffers, elements)
        with repeated(self.operands.x.static_shape[0]) as image, T.serial(rows) as row:
            line = (image * rows + row) * elements
            with repeated(self.groups) as group:
                for start, count in [(0, columns)] if strip is None else self.strip.parts():
                    windows = self._windows(buffers, strip, image, group, row, start, count)
                    if self.tail is None:
                        self._sums(buffers, windows, rest, image, group, row, start, count)
                    else:
                        place = finish.place(line, start * self.made + group * self.filters)
                        self._product(buffers, windows, self.tail, count, group, place)
            if self.tail is not None:
                finish.row(line)

    def _windows(
        self,
        buffers: Buffers,
        strip: tirx.Var | None,
        image: Expr | int,
        group: Expr | int,
        row: Expr,
        start: int,
        count: int,
    ) -> Windows:
        x, step = buffers[self.operands.x], self.groups * self.channels
        begin = image * self.window.image[0] * self.window.image[1] * step + group * self.channels
        if strip is not None:
            self.strip.fill(strip, x, begin, row, start, count)
            return Windows(strip, 0, self.strip.pace)
        line = self.window.line(row, tirx.const(0, "int32"))
        return Windows(x, begin + line * self.window.image[1] * step, self.window.strides[1] * step)

    def _product(
        self, buffers: Buffers, windows: Windows, tail: Tail, count: int, group: Expr | int, y: Pointer
    ) -> None:
        packed = at(buffers[self.operands.weights], group * self.words)
        sizes = packed, self.depth, self.filters, y, self.made
        call(KINDS[self.bits] + "product", windows.at(0), windows.pace, count, *sizes, *tail.first.cut)

    def _sums(
        self,
        buffers: Buffers,
        windows: Windows,
        rest: Rest | Sums,
        image: Expr | int,
        group: Expr | int,
        row: Expr,
        start: int,
        count: int,
    ) -> None:
        packed = at(buffers[self.operands.weights], group * self.words)

        def sums(first: Expr | int, pixels: int, made: Pointer) -> None:
            sizes = packed, self.depth, self.filters, made, rest.room
            call(KINDS[self.bits] + "sums", windows.at(first), windows.pace, pixels, *sizes)

        def place(pixel: Expr, channel: Expr) -> list[Expr | int]:
            return [image, 0, *self.window.pixel(row, pixel + start), group * self.filters + channel]

        def blended(first: Expr, pixels: int) -> None:
            assert self.blend is not None
            line = (image * self.window.result[0] + row) * self.window.result[1] + start
            self._blend(self.blend, buffers, rest, (line + first) * self.made, pixels)

        if isinstance(rest, Rest):
            rest.finish(count, self.filters, sums, place)
        else:
            rest.tiles(count, sums, blended)

    def _blend(self, blend: Blend, buffers: Buffers, made: Sums, start: Expr, pixels: int) -> None:
        numbers = at(buffers[self.operands.weights], self.words)
        x, y = at(buffers[blend.image], start), at(buffers[self.body.outputs[0]], start)
        sums = at(made.made, 0), made.room, numbers, self.filters, pixels
        scales = blend.factor, blend.offset, int(blend.end.multiplier[0])
        call("add_sums", *sums, x, *scales, y, *blend.end.cut)


@dataclass(frozen=True)
class Windows:
    """Runs of bytes in a buffer, `pace` apart."""

    buffer: tirx.Var
    begin: Expr | int
    pace: int

    def at(self, number: Expr | int) -> Pointer:
        return at(self.buffer, self.begin + number * self.pace)


def anchor_of(body: Graph, target: Target) -> Anchor | None:
    """The convolution of int8 that a body computes, channels-last on both sides."""
    anchor = Anchor.of_bytes(body) if has_helium(target) else None
    if (
        anchor is None
        or anchor.read is None
        or anchor.x.dtype is not DType.int8
        or anchor.x.producer is not None
    ):
        return None
    if not anchor.node.output.type or not anchor.node.output.type.size or not anchor.channels:
        return None
    return anchor if anchor.read.blocks == anchor.made.blocks == 1 else None
