"""Pools of int8, channels-last, by `helium_sum_pool` and `helium_max_pool`; windows are cut at the image's border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.ir import KERNEL, QUANT, DType, Graph, Node, Value
from graphopt.ir.layout import blocked_of
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.calls import at, call
from graphopt.targets.schedules.templates.helium.requantization import Requantization, has_helium, values_of
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated
from graphopt.targets.schedules.templates.tile import Row
from graphopt.targets.schedules.templates.window import Window, window_of_image

MAXIMA = ("GlobalMaxPool", "MaxPool")


@dataclass(frozen=True)
class HeliumPool:
    """A pool of `channels`; `end` makes means of sums, and a maximum has none."""

    body: Graph
    anchor: Node
    window: Window
    channels: int
    end: Requantization | None
    family: ClassVar[str] = "helium"

    @property
    def name(self) -> str:
        return f"{self.family}-pool"

    @classmethod
    def serves(cls, target: Target) -> bool:
        return has_helium(target)

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> HeliumPool | None:
        nodes = list(body.nodes)
        if not cls.serves(target) or not nodes:
            return None
        anchor, end = nodes[0], None
        x, made = anchor.input(0), blocked_of(anchor.output.type)
        if (
            x is None
            or made is None
            or x.dtype is not DType.int8
            or x.producer is not None
            or made.blocks != 1
            or not (x.type and x.type.size)
        ):
            return None
        if anchor.is_op("SumPool", domain=QUANT) and len(nodes) == 2:
            end = Requantization.of(nodes[1], values_of(body, constants))
            if end is None or nodes[1].input(0) is not anchor.output:
                return None
        elif not anchor.is_op(*MAXIMA, domain=KERNEL) or len(nodes) > 1 or len(anchor.outputs) > 1:
            return None
        image = x.static_shape[2:-1]
        kernel = image if anchor.op_type.startswith("Global") else anchor.ints("kernel_shape")
        if kernel is None or len(kernel) > 2:
            return None
        window = window_of_image(anchor, image, kernel)
        fitting = cls(body, anchor, window, made.channels, end)
        return fitting if window.dilations == (1, 1) and fitting._knows_multipliers else None

    @property
    def _knows_multipliers(self) -> bool:
        """There is one, which the body holds, or one for each pixel of the result."""
        if self.end is None:
            return True
        value = self._multipliers
        assert value is not None
        if self.end.multiplier.size == 1:
            return value.constant is not None
        return value.static_shape[-1] == 1 and self.end.multiplier.size == math.prod(self.window.result)

    @property
    def _multipliers(self) -> Value | None:
        return self.end.result.producer.input(1) if self.end and self.end.result.producer else None

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, self._emit)

    def _emit(self, buffers: Buffers) -> None:
        window, channels = self.window, self.channels
        (rows, columns), batch = window.result, self.anchor.output.static_shape[0]
        step, line = channels, window.image[1] * channels
        with repeated(batch) as image, repeated(rows) as row, repeated(columns) as column:
            top, down = _taps(window.rows, row)
            left, across = _taps(window.row, column)
            begin = ((image * window.image[0] + top) * window.image[1] + left) * channels
            place = ((image * rows + row) * columns + column) * channels
            x, y = at(buffers[self._image], begin), at(buffers[self.body.outputs[0]], place)
            taps = x, line, step, down, across, channels
            if self.end is None:
                call("max_pool", *taps, y, family=self.family)
            else:
                zero_point = self.anchor.int("x_zero_point")
                start = 0 if zero_point == 0 else down * across * -zero_point
                call(
                    "sum_pool",
                    *taps,
                    start,
                    self._multiplier(buffers, row, column),
                    y,
                    *self.end.cut,
                    family=self.family,
                )

    @property
    def _image(self) -> Value:
        x = self.anchor.input(0)
        assert x is not None
        return x

    def _multiplier(self, buffers: Buffers, row: Expr | int, column: Expr | int) -> Expr | int:
        assert self.end is not None and self._multipliers is not None
        if self.end.multiplier.size == 1:
            return int(self.end.multiplier[0])
        return buffers[self._multipliers][row * self.window.result[1] + column]


def _taps(row: Row, output: Expr | int) -> tuple[Expr | int, Expr | int]:
    """The first input of an output's window that is inside the image, and how many are."""
    first = output * row.stride - row.pad
    last = (row.outputs - 1) * row.stride - row.pad + row.taps
    if row.pad <= 0 and last <= row.inputs:
        return first, row.taps
    begin = tirx.max(first, 0)
    return begin, tirx.min(first + row.taps, row.inputs) - begin
