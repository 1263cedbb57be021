"""What attention reads: heads wherever they lie, masks, and keys and values in the order that products walk them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import DType, Value
from graphopt.targets.lower.tensors import Expr, flat_index
from graphopt.targets.schedules.templates.kernel import repeated
from graphopt.targets.schedules.templates.shuffles import filled, store_vector, transposed, vector_at
from graphopt.targets.strided import View


@dataclass(frozen=True)
class Heads:
    """A tensor of (batch, heads, tokens, width) wherever it lies in a buffer."""

    buffer: tirx.Var
    view: View

    def place(self, *indices: Expr | int) -> Expr:
        found: Expr = tirx.const(self.view.offset, "int32")
        for index, stride, dim in zip(indices, self.view.strides, self.view.shape, strict=True):
            if dim > 1:
                found = found + index * stride
        return found

    def at(self, *indices: Expr | int) -> Expr:
        return self.buffer[self.place(*indices)]


@dataclass(frozen=True)
class Mask:
    """Added to scores, or telling which of them count; it broadcasts to (batch, heads, queries, keys)."""

    buffer: tirx.Var
    value: Value

    def apply(self, score: Expr, *indices: Expr) -> Expr:
        """The score at `indices` with the mask on it."""
        shape = (1,) * (4 - len(self.value.static_shape)) + self.value.static_shape
        kept = [0 if dim == 1 else index for index, dim in zip(indices, shape, strict=True)]
        given = self.buffer[flat_index(kept, shape)]
        if self.value.dtype is DType.bool:
            return tirx.Select(given, score, tirx.const(-math.inf, "float32"))
        return score + given


@dataclass(frozen=True)
class Packing:
    """Keys times `scale` as [panel][width][`wide`], values as [key][whole vectors], zeros where there is nothing.

    Both have as many keys as whole panels of `wide` hold.
    """

    keys: Heads
    values: Heads
    scale: float
    lanes: int
    wide: int

    @property
    def count(self) -> int:
        return self.keys.view.shape[2]

    @property
    def padded(self) -> int:
        return -(-self.count // self.wide) * self.wide

    @property
    def value_width(self) -> int:
        return -(-self.values.view.shape[3] // self.lanes) * self.lanes

    @property
    def key_elements(self) -> int:
        return self.padded * self.keys.view.shape[3]

    @property
    def value_elements(self) -> int:
        return self.padded * self.value_width

    def pack_keys(self, packed: tirx.Var, first: Expr | int, image: Expr, group: Expr) -> None:
        """By square blocks in registers where the keys' elements are neighbours, else along the keys."""
        _, _, _, width = self.keys.view.shape
        side = math.gcd(width, self.lanes)
        if self.keys.view.strides[3] != 1 or side == 1:
            self._pack_along(packed, first, image, group)
            return
        whole, rest = divmod(self.count, side)
        if whole:
            with T.serial(whole) as block, repeated(width // side) as column:
                self._pack_block(packed, first, image, group, block * side, column * side, side, side)
        for start in range(whole * side, self.padded, side):
            known = rest if start < self.count else 0
            with repeated(width // side) as column:
                self._pack_block(
                    packed, first, image, group, tirx.const(start, "int32"), column * side, side, known
                )

    def _pack_block(
        self,
        packed: tirx.Var,
        first: Expr | int,
        image: Expr,
        group: Expr,
        start: Expr,
        column: Expr | int,
        side: int,
        known: int,
    ) -> None:
        """The block of `side` keys from `start` on, of which `known` exist, and of `side` elements of each."""
        rows = []
        for number in range(side):
            if number < known:
                place = self.keys.place(image, group, start + number, column)
                factor = tirx.Broadcast(tirx.const(self.scale, "float32"), side)
                rows.append(T.bind(vector_at(self.keys.buffer, place, side) * factor))
            else:
                rows.append(filled(0.0, side))
        if known:
            rows = transposed(rows)
        panel, lane = tirx.indexdiv(start, self.wide), tirx.indexmod(start, self.wide)
        width = self.keys.view.shape[3]
        for number, vector in enumerate(rows):
            place = first + (panel * width + column + number) * self.wide + lane
            store_vector(packed, place, vector, side)

    def _pack_along(self, packed: tirx.Var, first: Expr | int, image: Expr, group: Expr) -> None:
        width, scale = self.keys.view.shape[3], tirx.const(self.scale, "float32")
        with T.serial(-(-self.count // self.wide)) as panel, T.serial(width) as element:
            for vector in range(self.wide // self.lanes):
                with T.vectorized(self.lanes) as lane:
                    key = panel * self.wide + vector * self.lanes + lane
                    value = self.keys.at(image, group, key, element) * scale
                    if self.padded != self.count:
                        zero = tirx.const(0.0, "float32")
                        value = tirx.if_then_else(key < self.count, value, zero)
                    place = first + (panel * width + element) * self.wide + vector * self.lanes + lane
                    T.buffer_store(packed, value, [place])

    def pack_values(self, packed: tirx.Var, first: Expr | int, image: Expr, group: Expr) -> None:
        depth, wide = self.values.view.shape[3], self.value_width
        with T.serial(self.count) as key:
            for vector in range(wide // self.lanes):
                place = first + key * wide + vector * self.lanes
                known = min(self.lanes, depth - vector * self.lanes)
                with T.vectorized(known) as lane:
                    value = self.values.at(image, group, key, vector * self.lanes + lane)
                    T.buffer_store(packed, value, [place + lane])
                if known < self.lanes:
                    with T.vectorized(self.lanes - known) as lane:
                        T.buffer_store(packed, tirx.const(0.0, "float32"), [place + known + lane])
        for key in range(self.count, self.padded):
            for vector in range(wide // self.lanes):
                place = first + key * wide + vector * self.lanes
                store_vector(packed, place, filled(0.0, self.lanes), self.lanes)
