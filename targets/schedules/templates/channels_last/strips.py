"""Strips: what the windows of a tile read, brought together in the type that is multiplied, pads included."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.channels_last.inner import call, scratch
from graphopt.targets.schedules.templates.channels_last.plan import IN_PLACE, LINES, WINDOWS, Plan
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.kernel import either, repeated, settled, taken_apart

COPIES = {
    ("int8", "int8"): "copy_int8",
    ("int8", "int16"): "widen_int8",
    ("int16", "int16"): "copy_int16",
}
"""The function that copies elements of the first type into a strip of the second."""


class Strips:
    """Writes the strip of one tile after the other; `x` is the image."""

    def __init__(self, plan: Plan, x: tirx.Var) -> None:
        self.plan = plan
        self.layer = plan.layer
        self.window = plan.layer.window
        self.x = x
        if plan.strip != IN_PLACE:
            self.strip = scratch(plan.strip_elements, plan.inner.element)
            self._clear()

    def _clear(self) -> None:
        """What fills up runs is multiplied with zeros; it is a number all the same."""
        plan = self.plan
        if plan.filled > plan.run:
            call(
                f"fill_{plan.inner.element}",
                self.strip,
                tirx.const(0, plan.inner.element),
                plan.strip_elements,
            )

    def fill(self, image: Expr, group: Expr, row: Expr, start: Expr) -> None:
        """Bring together what the tile that begins with pixel `start` of `row` reads."""
        if self.plan.strip == LINES:
            first = self._first(start)
            with repeated(self.window.kernel[0]) as tap:
                self._line(tap * self.plan.line, image, row, tap, first, self.plan.columns)
        elif self.plan.strip == WINDOWS:
            with repeated(self.plan.pixels) as pixel:
                self._window(pixel * self.plan.filled, image, group, row, start + pixel)

    def _first(self, pixel: Expr) -> Expr:
        """The column that the window of a pixel begins with."""
        return pixel * self.window.strides[1] - self.window.pads[1]

    def _window(self, to: Expr, image: Expr, group: Expr, row: Expr, pixel: Expr) -> None:
        if self.plan.goes_on:
            row, pixel = (settled(part) for part in taken_apart(pixel, *self.window.result))
        lines, columns = self.window.kernel
        first = self._first(pixel)
        with repeated(lines) as tap:
            place = to + tap * (columns * self.layer.channels)
            if self.layer.is_contiguous:
                self._line(place, image, row, tap, first, columns)
            else:
                self._pieces(place, image, group, row, tap, first)

    def _line(self, to: Expr, image: Expr, row: Expr, tap: Expr, first: Expr, columns: int) -> None:
        """So many columns of the row that row tap `tap` reads."""
        line = self.window.line(row, tap)
        either(
            self.window.line_exists(line),
            lambda: self._inside(to, image, line, first, columns),
            lambda: self._pad(to, columns),
        )

    def _inside(self, to: Expr, image: Expr, line: Expr, first: Expr, columns: int) -> None:
        width, channels = self.window.image[1], self.layer.channels
        row = self.window.row
        if row.is_inside(0, row.outputs):
            self._copy(to, image, 0, line, first, columns)
            return
        left = T.bind(tirx.max(tirx.min(-first, columns), 0))
        right = T.bind(tirx.max(tirx.min(first + columns - width, columns), 0))
        self._pad(to, left)
        self._copy(to + left * channels, image, 0, line, first + left, columns - left - right)
        self._pad(to + (columns - right) * channels, right)

    def _pieces(self, to: Expr, image: Expr, group: Expr, row: Expr, tap: Expr, first: Expr) -> None:
        """The columns of a window one by one: there are others between them, or channels of other groups."""
        window, channels = self.window, self.layer.channels
        line = window.line(row, tap)
        with repeated(window.kernel[1]) as across:
            column = first + across * window.dilations[1]
            place, tests = to + across * channels, [window.line_exists(line)]
            if not window.row.is_inside(0, window.row.outputs):
                tests.append(tirx.all(column >= 0, column < window.image[1]))
            known = [test for test in tests if test is not None]
            either(
                tirx.all(*known) if known else None,
                lambda: self._copy(place, image, group, line, column, 1),
                lambda: self._pad(place, 1),
            )

    def _copy(self, to: Expr, image: Expr, group: Expr, line: Expr, column: Expr, columns: Expr) -> None:
        pixel = (image * self.window.image[0] + line) * self.window.image[1] + column
        source = Pointer(self.x, pixel * self.layer.width + group * self.layer.channels)
        copy = COPIES[self.layer.dtype, self.plan.inner.element]
        call(copy, Pointer(self.strip, to), source, columns * self.layer.channels)

    def _pad(self, to: Expr, columns: Expr) -> None:
        element = self.plan.inner.element
        zero = tirx.const(self.layer.zero, element)
        call(f"fill_{element}", Pointer(self.strip, to), zero, columns * self.layer.channels)

    def run(self, image: Expr, group: Expr, row: Expr, start: Expr, number: Expr) -> Pointer:
        """Where run `number` of the tile's first pixel begins."""
        if self.plan.strip != IN_PLACE:
            return Pointer(self.strip, number * self.plan.line if self.plan.strip == LINES else 0)
        line = self.window.line(row, number)
        column = self._first(start)
        pixel = (image * self.window.image[0] + line) * self.window.image[1] + column
        return Pointer(self.x, pixel * self.layer.width + group * self.layer.channels)
