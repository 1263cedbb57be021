"""Strips: what the windows of some outputs of a row read, so that each window is one run of bytes.

    strip[column][row of the kernel][channel]        a window begins `stride` columns after the one before

Taps outside the image are the zero point. Where the kernel is dilated along the row every window has its own columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tvm import tirx

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.calls import at, call, workspace
from graphopt.targets.schedules.templates.kernel import either, repeated
from graphopt.targets.schedules.templates.window import Window

LARGEST = 4096
"""Bytes of a strip, unless a few windows alone are more."""

FEWEST = 6
"""Windows of a strip: two tiles."""


@dataclass(frozen=True)
class Run:
    """Evenly spaced columns: where the first lies in the strip, how many, how far apart they are there; which column
    of the image the first is, and how far apart they are in it."""

    first: int
    columns: int
    to: int
    source: int
    pace: int


@dataclass(frozen=True)
class Strip:
    """`channels` of an image, whose pixels are `step` bytes apart, in places of `room` bytes."""

    window: Window
    channels: int
    step: int
    zero_point: int
    room: int

    @property
    def column(self) -> int:
        """Bytes of a column."""
        return self.window.kernel[0] * self.room

    @property
    def is_dilated(self) -> bool:
        return self.window.kernel[1] > 1 and self.window.dilations[1] > 1

    @property
    def depth(self) -> int:
        """Bytes of a window."""
        return self.window.kernel[1] * self.column

    @property
    def pace(self) -> int:
        """Bytes from one window to the next."""
        return self.depth if self.is_dilated else self.window.strides[1] * self.column

    @property
    def outputs(self) -> int:
        """Of a strip: the row in equal parts."""
        row = self.window.result[1]
        most = max((LARGEST - self.depth) // self.pace + 1, FEWEST)
        parts = -(-row // most)
        return -(-row // parts)

    @property
    def bytes(self) -> int:
        return (self.outputs - 1) * self.pace + self.depth

    def parts(self) -> list[tuple[int, int]]:
        """The first output of every strip, and how many it has."""
        row = self.window.result[1]
        return [(start, min(self.outputs, row - start)) for start in range(0, row, self.outputs)]

    def made(self) -> tirx.Var:
        """The workspace; with the zero point in it where one strip is the whole row."""
        strip = workspace(self.bytes)
        if len(self.parts()) == 1 and self._pads(0, self.window.result[1]):
            call("padding", self.zero_point, at(strip, 0), self.bytes, self.bytes, 1)
        return strip

    def fill(
        self, strip: tirx.Var, x: tirx.Var, image: Expr | int, row: Expr, start: int, count: int
    ) -> None:
        """What the outputs of `row` from `start` on read of the image that begins at x[image]."""
        window = self.window
        with repeated(window.kernel[0]) as tap:
            line = window.line(row, tirx.const(tap, "int32") if isinstance(tap, int) else tap)
            for run in self._runs(start, count):
                begin = image + (line * window.image[1] + run.source) * self.step
                place, of = at(strip, run.first + tap * self.room), (self.channels, run.columns)
                copy = partial(call, "columns", at(x, begin), run.pace, place, run.to, *of)
                pad = partial(call, "padding", self.zero_point, place, run.to, *of)
                either(window.line_exists(line), copy, pad)
            if len(self.parts()) > 1:
                for run in self._pads(start, count):
                    place, of = at(strip, run.first + tap * self.room), (self.channels, run.columns)
                    call("padding", self.zero_point, place, run.to, *of)

    def _columns(self, start: int, count: int) -> list[Run]:
        """All that the outputs from `start` on read."""
        row = self.window.row
        origin = start * row.stride - row.pad
        if not self.is_dilated:
            return [Run(0, (count - 1) * row.stride + row.taps, self.column, origin, 1)]
        return [
            Run(tap * self.column, count, self.pace, origin + tap * row.dilation, row.stride)
            for tap in range(row.taps)
        ]

    def _runs(self, start: int, count: int) -> list[Run]:
        """Of those the ones inside the image; distances there are in bytes."""
        found = []
        for run in self._columns(start, count):
            first, end = self._inside(run)
            if end > first:
                source = run.source + first * run.pace
                found.append(
                    Run(run.first + first * run.to, end - first, run.to, source, run.pace * self.step)
                )
        return found

    def _pads(self, start: int, count: int) -> list[Run]:
        """And the ones outside."""
        found = []
        for run in self._columns(start, count):
            first, end = self._inside(run)
            if first:
                found.append(replace(run, columns=first))
            if end < run.columns:
                found.append(replace(run, first=run.first + end * run.to, columns=run.columns - end))
        return found

    def _inside(self, run: Run) -> tuple[int, int]:
        """The first column of a run that is inside the image, and the one behind the last."""
        first = min(max(-(run.source // run.pace), 0), run.columns)
        end = -(-(self.window.image[1] - run.source) // run.pace)
        return first, max(min(end, run.columns), first)
