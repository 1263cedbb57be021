"""Depthwise convolutions of int8 by `helium_depthwise`: 16 channels of a strip at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.calls import Finish, Pointer, at, call
from graphopt.targets.schedules.templates.helium.convolution import anchor_of
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import (
    CHANNELS,
    depthwise_words,
    pack_depthwise,
    starts,
)
from graphopt.targets.schedules.templates.helium.requantization import Tail, values_of
from graphopt.targets.schedules.templates.helium.rest import Rest
from graphopt.targets.schedules.templates.helium.strip import Strip
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated
from graphopt.targets.schedules.templates.window import Window, window_of_image

LOWEST = -128
"""No weight may be: a pair of products would not fit 16 bits."""


@dataclass(frozen=True)
class HeliumDepthwise:
    """A convolution of each of `channels` on its own."""

    body: Graph
    anchor: Node
    operands: Operands
    window: Window
    channels: int
    tail: Tail | None

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> HeliumDepthwise | None:
        anchor = anchor_of(body, target)
        if anchor is None or not anchor.groups == anchor.channels == anchor.made.channels:
            return None
        known = values_of(body, constants)
        tail = Tail.of(body, anchor.node, known)
        operands = Operands.of(body, anchor.node, tail, known)
        if operands is None or known[anchor.weights].min(initial=0) == LOWEST:
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        return cls(body, anchor.node, operands, window, anchor.channels, tail)

    @property
    def name(self) -> str:
        return "helium-depthwise" if self.tail else "helium-depthwise-sums"

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    @property
    def zero_point(self) -> int:
        return self.anchor.int("x_zero_point")

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        weights, bias = self.operands.read(values_of(self.body, constants))
        windows = weights.reshape(self.channels, *self.window.kernel).transpose(0, 2, 1)
        rows = windows.reshape(self.channels, -1)
        multipliers = self.operands.multipliers(self.tail, self.channels)
        return self.operands.packed(pack_depthwise(rows, starts(rows, bias, self.zero_point), multipliers))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes, types = self.operands.declared(
            -(-self.channels // CHANNELS) * depthwise_words(self.window.taps)
        )
        return build_kernel(self.body, self._emit, sizes, types)

    # --- the kernel ---

    def _emit(self, buffers: Buffers) -> None:
        whole, left = divmod(self.channels, CHANNELS)
        wide, narrow = (
            Strip(self.window, count, self.channels, self.zero_point, CHANNELS) for count in (CHANNELS, left)
        )
        strip = (wide if whole else narrow).made()
        rows, columns = self.window.result
        elements = columns * self.channels
        if self.tail is None:
            rest = Rest(self.body, self.anchor, buffers, CHANNELS)
        else:
            finish = Finish(self.tail, buffers, elements)

        def block_of_row(read: Strip, image: Expr | int, block: Expr | int, row: Expr, line: Expr) -> None:
            for start, count in read.parts():
                self._fill(buffers, read, strip, image, block, row, start, count)
                windows = _Windows(strip, read.pace, self._packed(buffers, block), self.window.taps)
                if self.tail is None:
                    self._sums(windows, rest, read.channels, image, block, row, start, count)
                else:
                    place = finish.place(line, start * self.channels + block * CHANNELS)
                    windows.bytes(count, read.channels, place, self.channels, self.tail)

        with repeated(self.operands.x.static_shape[0]) as image, T.serial(rows) as row:
            line = (image * rows + row) * elements
            if whole:
                with repeated(whole) as block:
                    block_of_row(wide, image, block, row, line)
            if left:
                block_of_row(narrow, image, whole, row, line)
            if self.tail is not None:
                finish.row(line)

    def _packed(self, buffers: Buffers, block: Expr | int) -> Pointer:
        return at(buffers[self.operands.weights], block * depthwise_words(self.window.taps))

    def _fill(
        self,
        buffers: Buffers,
        read: Strip,
        strip: tirx.Var,
        image: Expr | int,
        block: Expr | int,
        row: Expr,
        start: int,
        count: int,
    ) -> None:
        pixels = self.window.image[0] * self.window.image[1]
        begin = image * pixels * self.channels + block * CHANNELS
        read.fill(strip, buffers[self.operands.x], begin, row, start, count)

    def _sums(
        self,
        windows: _Windows,
        rest: Rest,
        channels: int,
        image: Expr | int,
        block: Expr | int,
        row: Expr,
        start: int,
        count: int,
    ) -> None:
        def place(pixel: Expr, channel: Expr) -> list[Expr | int]:
            return [image, 0, *self.window.pixel(row, pixel + start), block * CHANNELS + channel]

        rest.finish(count, channels, windows.sums, place)


@dataclass(frozen=True)
class _Windows:
    """Windows in a strip, `pace` apart, and what they are multiplied with."""

    strip: tirx.Var
    pace: int
    packed: Pointer
    taps: int

    def bytes(self, count: int, channels: int, y: Pointer, step: int, tail: Tail) -> None:
        windows = at(self.strip, 0), self.pace, count, self.packed, self.taps
        call("depthwise", *windows, channels, y, step, *tail.first.cut)

    def sums(self, first: Expr | int, count: int, made: Pointer) -> None:
        call(
            "depthwise_sums",
            at(self.strip, first * self.pace),
            self.pace,
            count,
            self.packed,
            self.taps,
            made,
        )
