"""Depthwise convolutions of int8 by `helium_depthwise`: 16 channels of a strip at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.calls import Finish, at, call
from graphopt.targets.schedules.templates.helium.convolution import anchor_of
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import (
    CHANNELS,
    depthwise_words,
    fits_bytes,
    pack_depthwise,
    starts,
)
from graphopt.targets.schedules.templates.helium.requantization import Tail, values_of
from graphopt.targets.schedules.templates.helium.strip import Strip
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated
from graphopt.targets.schedules.templates.window import Window, window_of_image

LOWEST = -128
"""No weight may be: a pair of products would not fit 16 bits."""


@dataclass(frozen=True)
class HeliumDepthwise:
    """A convolution of each of `channels` on its own."""

    body: Graph
    operands: Operands
    window: Window
    zero_point: int
    channels: int
    tail: Tail
    name: str = "helium-depthwise"

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
        if tail is None or operands is None:
            return None
        weights = known[anchor.weights]
        if not fits_bytes(weights) or weights.min(initial=0) == LOWEST:
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        return cls(body, operands, window, anchor.node.int("x_zero_point"), anchor.channels, tail)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        weights, bias = self.operands.read(values_of(self.body, constants))
        windows = weights.reshape(self.channels, *self.window.kernel).transpose(0, 2, 1)
        rows = windows.reshape(self.channels, -1)
        multipliers = self.tail.multipliers(self.channels)
        return self.operands.packed(pack_depthwise(rows, starts(rows, bias, self.zero_point), multipliers))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes, types = self.operands.declared(
            -(-self.channels // CHANNELS) * depthwise_words(self.window.taps)
        )
        return build_kernel(self.body, self._emit, sizes, types)

    # --- the kernel ---

    def _emit(self, buffers: Buffers) -> None:
        whole, rest = divmod(self.channels, CHANNELS)
        most = CHANNELS if whole else rest
        strip = Strip(self.window, most, self.channels, self.zero_point, CHANNELS)
        workspace = strip.made()
        narrow = Strip(self.window, rest, self.channels, self.zero_point, CHANNELS)
        batch = self.operands.x.static_shape[0]
        rows, columns = self.window.result
        finish = Finish(self.tail, buffers, columns * self.channels)
        with repeated(batch) as image, T.serial(rows) as row:
            line = (image * rows + row) * columns * self.channels
            if whole:
                with repeated(whole) as block:
                    self._row(buffers, strip, workspace, image, block, row, finish, line)
            if rest:
                self._row(buffers, narrow, workspace, image, whole, row, finish, line)
            finish.row(line)

    def _row(
        self,
        buffers: Buffers,
        strip: Strip,
        workspace: tirx.Var,
        image: Expr | int,
        block: Expr | int,
        row: Expr,
        finish: Finish,
        line: Expr,
    ) -> None:
        """One row of the result, of some channels."""
        packed = at(buffers[self.operands.weights], block * depthwise_words(self.window.taps))
        pixels = self.window.image[0] * self.window.image[1]
        begin = image * pixels * self.channels + block * CHANNELS
        for start, count in strip.parts():
            strip.fill(workspace, buffers[self.operands.x], begin, row, start, count)
            place = finish.place(line, start * self.channels + block * CHANNELS)
            operands = at(workspace, 0), strip.pace, count, packed, self.window.taps, strip.channels
            call("depthwise", *operands, place, self.channels, *self.tail.first.cut)
