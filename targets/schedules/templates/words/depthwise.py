"""Depthwise convolutions of int8, channels-last, by `words_depthwise`: channels in planes of some rows each.

The numbers of a layer lie in front of its weights, so that all layers of a model are one function. Taps stay bytes
there; what an instruction wants is made once for a channel's plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import DType, Graph
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.helium.calls import at
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import fits_bytes, rounded_up, starts
from graphopt.targets.schedules.templates.helium.requantization import Tail, values_of
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated
from graphopt.targets.schedules.templates.window import Window, window_of_image
from graphopt.targets.schedules.templates.words.core import has_dsp, is_without_vectors, largest, least

HEADER = 17
"""Words of a layer's numbers: the fields of `struct words_depthwise`."""

FOUR = 4
"""Taps in a word; channels that are loaded together."""

LARGEST, SHARE = 4096, 8
"""Bytes of the planes: at most so many, and one part in so many of what the layer reads and writes."""


@dataclass(frozen=True)
class Planes:
    """`count` planes at a time, in elements of `dtype`, `lanes` columns of which lie side by side."""

    window: Window
    dtype: str
    lanes: int
    count: int

    @classmethod
    def of(cls, window: Window, target: Target) -> Planes:
        return cls(window, "int16", 2, FOUR) if has_dsp(target) else cls(window, "int8", 1, 1)

    @property
    def columns(self) -> int:
        """All that windows read, and what is read beside it: words of two, for two outputs at once."""
        row = self.window.row
        read = (row.outputs - 1) * row.stride + (row.taps - 1) * row.dilation + 1
        return read if self.lanes == 1 else rounded_up(read, 2) + 2

    def height(self, band: int) -> int:
        """Rows that so many rows of the result read."""
        rows = self.window.rows
        return (band - 1) * rows.stride + (rows.taps - 1) * rows.dilation + 1

    def elements(self, band: int) -> int:
        """Of one plane."""
        return self.columns * self.height(band)

    def bytes(self, band: int) -> int:
        return self.count * self.elements(band) * self.lanes

    @property
    def of_taps(self) -> int:
        """Elements behind the planes: the taps of a filter in pairs, twice, unless all of them are in registers."""
        window, (rows, columns) = self.window, self.window.kernel
        in_registers = (rows, columns) == (3, 3) and window.strides in ((1, 1), (2, 2))
        if self.lanes == 1 or window.dilations[1] > 1 or (in_registers and window.dilations[0] == 1):
            return 0
        return 2 * 2 * rows * (columns // 2 + 1)

    def best_band(self, moved: int) -> int:
        """Rows at once, in equal parts, for a layer that moves so many bytes."""
        rows = self.window.result[0]
        room = min(LARGEST, moved // SHARE)
        band = next((b for b in range(rows, 1, -1) if self.bytes(b) <= room), 1)
        return -(-rows // -(-rows // band))


@dataclass(frozen=True)
class WordsDepthwise:
    """A convolution of each of `channels` on its own, by `filters` filters."""

    body: Graph
    operands: Operands
    planes: Planes
    zero_point: int
    channels: int
    filters: int
    tail: Tail
    name: str = "words-depthwise"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> WordsDepthwise | None:
        anchor = Anchor.of_bytes(body) if is_without_vectors(target) else None
        if anchor is None or anchor.read is None or anchor.x.dtype is not DType.int8:
            return None
        if anchor.x.producer is not None or not anchor.read.blocks == anchor.made.blocks == 1:
            return None
        if not (anchor.x.type and anchor.x.type.size) or not anchor.node.output.type.size:  # type: ignore[union-attr]
            return None
        known = values_of(body, constants)
        tail = Tail.of(body, anchor.node, known)
        operands = Operands.of(body, anchor.node, tail, known)
        filters, rest = divmod(anchor.made.channels, anchor.channels)
        if (
            anchor.groups != anchor.channels
            or anchor.groups == 1
            or rest
            or tail is None
            or tail.added
            or operands is None
        ):
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        if min(window.pads) < 0 or not fits_bytes(known[anchor.weights]):
            return None
        zero_point = anchor.node.int("x_zero_point")
        planes = Planes.of(window, target)
        return cls(body, operands, planes, zero_point, anchor.channels, filters, tail)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {"band": range(1, self.planes.window.result[0] + 1)}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        window = self.planes.window
        read = window.image[0] * window.image[1] * self.channels
        made = window.result[0] * window.result[1] * self.channels * self.filters
        return like or {"band": self.planes.best_band(read + made)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The layer, then for each filter the start of its sums, their multiplier and its rows of taps."""
        weights, bias = self.operands.read(values_of(self.body, constants))
        made, (rows, columns) = self.channels * self.filters, self.planes.window.kernel
        taps = np.zeros((made, rows, rounded_up(columns, FOUR)), np.int8)
        taps[:, :, :columns] = weights.reshape(made, rows, columns)
        begin = starts(weights.reshape(made, -1), bias, self.zero_point)
        numbers = np.stack([begin, self.tail.multipliers(made)], axis=1)
        filters = np.concatenate([numbers, taps.reshape(made, -1).view("<i4").astype(np.int32)], axis=1)
        header = np.array(self._header(decision["band"]), np.int32)
        return self.operands.packed(np.concatenate([header, filters.reshape(-1)]))

    def _header(self, band: int) -> list[int]:
        window, planes = self.planes.window, self.planes
        return [
            window.image[1],
            self.channels,
            window.result[1],
            *window.kernel,
            *window.strides,
            *window.dilations,
            window.pads[1],
            self.filters,
            planes.height(band),
            planes.elements(band),
            self.zero_point,
            *self.tail.first.cut,
        ]

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        rows, columns = self.planes.window.kernel
        words = 2 + rows * rounded_up(columns, FOUR) // FOUR
        sizes, types = self.operands.declared(HEADER + self.channels * self.filters * words)
        return build_kernel(self.body, lambda buffers: self._emit(buffers, decision["band"]), sizes, types)

    def _emit(self, buffers: Buffers, band: int) -> None:
        planes, (output,) = self.planes, self.body.outputs
        elements = planes.count * planes.elements(band) + planes.of_taps
        workspace = T.alloc_buffer((elements,), planes.dtype)
        # TVM keeps as much of a buffer as it sees in use.
        T.buffer_store(workspace, tirx.const(0, planes.dtype), [elements - 1])
        x = self.operands.x
        window, batch = planes.window, self.operands.x.static_shape[0]
        x, y, packed = (buffers[value] for value in (self.operands.x, output, self.operands.weights))
        line, made_line = window.image[1] * self.channels, window.result[1] * self.channels * self.filters
        with repeated(batch) as image, repeated(-(-window.result[0] // band)) as part:
            first, above, rows, made = self._rows(part * band, band)
            of_x = image * window.image[0] + first + above
            of_y = image * window.result[0] + part * band
            call = at(y, of_y * made_line), at(x, of_x * line), at(packed, 0), at(workspace, 0)
            sizes = above, rows, line, made, made_line
            T.evaluate(T.call_extern("int32", f"words_depthwise_{planes.dtype}", *call, *sizes))

    def _rows(self, start: Expr | int, band: int) -> tuple[Expr | int, ...]:
        """What the rows of the result from `start` on read: the first row, how many rows are above the image, and how
        many inside; how many rows are made."""
        window, rows = self.planes.window, self.planes.window.rows
        count = least(window.result[0] - start, band) if window.result[0] % band else band
        first = start * rows.stride - rows.pad
        above = largest(-first, 0) if rows.pad else 0
        last = (count - 1) * rows.stride + (rows.taps - 1) * rows.dilation + 1
        return first, above, largest(least(last, window.image[0] - first) - above, 0), count
