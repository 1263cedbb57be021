"""Kernels for Helium that end in anything else than `requantization` knows: the sums of a few pixels go to a workspace,
and what follows takes them from there one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.helium.calls import Pointer, at, workspace
from graphopt.targets.schedules.templates.helium.packing import CHANNELS, rounded_up
from graphopt.targets.schedules.templates.kernel import Buffers

PIXELS = 3
"""Those of a tile."""

Routine = Callable[[Expr | int, int, Pointer], None]
"""From the first pixel, their number and where their sums go, the call."""


class Sums:
    """A workspace for `channels` sums of a few pixels."""

    def __init__(self, channels: int) -> None:
        self.room = rounded_up(channels, CHANNELS)
        self.made = workspace(PIXELS * self.room, "int32")

    def tiles(self, pixels: int, routine: Routine, then: Callable[[Expr, int], None]) -> None:
        """The sums of all pixels; `then` is done with those from a pixel on, so many of them."""
        whole, rest = divmod(pixels, PIXELS)
        tiles = [(T.serial(whole), PIXELS)] if whole else []
        tiles += [(nullcontext(tirx.const(pixels // PIXELS, "int32")), rest)] if rest else []
        for loop, count in tiles:
            with loop as tile:
                routine(tile * PIXELS, count, at(self.made, 0))
                then(tile * PIXELS, count)


class Rest(Sums):
    """What follows them is the rest of the body, in C."""

    def __init__(self, body: Graph, anchor: Node, buffers: Buffers, channels: int) -> None:
        super().__init__(channels)
        self._epilogue = Epilogue(body, anchor, buffers)

    def finish(
        self, pixels: int, channels: int, routine: Routine, place: Callable[[Expr, Expr], Sequence[Expr]]
    ) -> None:
        """Elements at the indices `place` of a pixel and a channel in the anchor's output."""

        def store(first: Expr, count: int) -> None:
            with T.serial(count) as pixel, T.serial(channels) as channel:
                sum = self.made[pixel * self.room + channel]
                self._epilogue.store(sum, place(first + pixel, channel))

        self.tiles(pixels, routine, store)
