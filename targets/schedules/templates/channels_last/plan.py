"""How a layer is cut into tiles, and what of the image each tile's strip holds.

A strip holds what the windows of a tile's pixels read. There are three kinds:

    IN_PLACE   none: the image itself is read, where nothing is padded and its type is multiplied as it is
    LINES      for each row of the kernel the piece of a row of the image that all windows of the tile read
    WINDOWS    the windows, one after the other: one run each, where runs of a row would be short, or lie in pieces; a
               tile then goes on from the end of one row of pixels to the next

Which kind and which tile take the fewest instructions is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphopt.targets.schedules.templates.channels_last.inner import Inner, Shape
from graphopt.targets.schedules.templates.channels_last.layer import Layer

IN_PLACE, LINES, WINDOWS = range(3)
"""Kinds of strips."""

PIECE = 20
"""Instructions for a piece of a strip, beside those for its elements."""

COPIED = 2
"""Instructions to bring an element into a strip."""

FINISHED = 8
"""Instructions to finish a sum, and to begin one."""


@dataclass(frozen=True)
class Plan:
    """Tiles of `pixels` x `channels` sums, with a strip of kind `strip`."""

    layer: Layer
    inner: Inner
    pixels: int
    channels: int
    strip: int

    # --- tiles ---

    @property
    def shape(self) -> Shape:
        return self.pixels, self.channels

    @property
    def goes_on(self) -> bool:
        """Tiles go on from one row of pixels to the next."""
        return self.strip == WINDOWS and self.layer.is_whole

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of pixels that tiles do not go beyond, and pixels of a row."""
        rows, pixels = self.layer.window.result
        return (1, rows * pixels) if self.goes_on else (rows, pixels)

    @property
    def across(self) -> int:
        """Tiles of a row; the last one begins where it ends with the row."""
        return -(-self.rows[1] // self.pixels)

    @property
    def tiles(self) -> int:
        """Tiles of the filters of a group."""
        return -(-self.layer.filters // self.channels)

    @property
    def last_filter(self) -> int:
        """The filter that the last tile of a group begins with."""
        return max(self.layer.filters - self.channels, 0)

    @property
    def stored(self) -> int:
        """Channels of a tile that there are."""
        return min(self.channels, self.layer.filters)

    # --- runs ---

    @property
    def runs(self) -> int:
        """Runs of a window."""
        return 1 if self.strip == WINDOWS else self.layer.window.kernel[0]

    @property
    def run(self) -> int:
        """Inputs of a run."""
        window = self.layer.window
        taps = window.taps if self.strip == WINDOWS else window.kernel[1]
        return taps * self.layer.channels

    @property
    def filled(self) -> int:
        """Inputs of a run as it is multiplied."""
        return -(-self.run // self.inner.depth) * self.inner.depth

    @property
    def columns(self) -> int:
        """Columns of the image that a tile reads of a row."""
        window = self.layer.window
        return (self.pixels - 1) * window.strides[1] + window.kernel[1]

    @property
    def step(self) -> int:
        """Elements from the run of one pixel to that of the next."""
        if self.strip == WINDOWS:
            return self.filled
        return self.layer.window.strides[1] * (
            self.layer.width if self.strip == IN_PLACE else self.layer.channels
        )

    @property
    def line(self) -> int:
        """Elements of a line of the strip."""
        return self.columns * self.layer.channels

    @property
    def strip_elements(self) -> int:
        if self.strip == WINDOWS:
            return self.pixels * self.filled
        return self.layer.window.kernel[0] * self.line + self.filled - self.run

    # --- weights ---

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """(filters of all groups, channels, rows, columns) as [group, tile, run], each run as the function wants it."""
        layer = self.layer
        taps = layer.window.taps
        by_tap = weights.reshape(layer.groups, layer.filters, layer.channels, taps).swapaxes(2, 3)
        by_run = by_tap.reshape(layer.groups, layer.filters, self.runs, self.run)
        missing = max(self.channels - layer.filters, 0)
        padded = np.pad(by_run, [(0, 0), (0, missing), (0, 0), (0, self.filled - self.run)])
        first = np.minimum(np.arange(self.tiles) * self.channels, self.last_filter)
        tiles = padded[:, first[:, np.newaxis] + np.arange(self.channels)]
        return self.inner.pack(tiles.swapaxes(2, 3))

    @property
    def weights_of_run(self) -> int:
        """Bytes of them."""
        return self.channels * self.filled * self.inner.bits // 8

    @property
    def weight_elements(self) -> int:
        return self.layer.groups * self.tiles * self.runs * self.weights_of_run

    # --- what it takes ---

    @cached_property
    def instructions(self) -> float:
        """Of the layer, estimated."""
        layer = self.layer
        runs = self.runs * self.inner.instructions(self.shape, self.filled)
        tile = self.tiles * (runs + FINISHED * self.pixels * self.channels)
        return self.rows[0] * self.across * layer.groups * (tile + self._strip_instructions)

    @property
    def _strip_instructions(self) -> float:
        window = self.layer.window
        if self.strip == IN_PLACE:
            return 0
        pieces = window.kernel[0]
        if self.strip == WINDOWS:
            pieces *= self.pixels * (1 if self.layer.is_contiguous else window.kernel[1])
        return PIECE * pieces + COPIED * self.strip_elements


def plans(layer: Layer, inner: Inner) -> Iterator[Plan]:
    """All ways to compute a layer."""
    fewest = min(channels for _, channels in inner.shapes)
    for strip in (IN_PLACE, LINES, WINDOWS):
        for shape in inner.shapes if _is_possible(layer, inner, strip) else ():
            plan = Plan(layer, inner, *shape, strip)
            if plan.pixels <= plan.rows[1] and plan.channels <= max(layer.filters, fewest):
                yield plan


def _is_possible(layer: Layer, inner: Inner, strip: int) -> bool:
    if strip == WINDOWS:
        return True
    in_one_piece = layer.is_contiguous or (strip == IN_PLACE and layer.window.kernel[1] == 1)
    if strip == LINES:
        return in_one_piece
    whole = Plan(layer, inner, 1, 1, strip).run % inner.depth == 0
    return in_one_piece and not layer.is_padded and whole and inner.element == layer.dtype
