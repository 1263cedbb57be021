"""Kernels for Helium that end in anything else than `requantization` knows: the sums of a few pixels go to a workspace,
and what follows takes them from there one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


class Rest:
    """`channels` sums of a pixel."""

    def __init__(self, body: Graph, anchor: Node, buffers: Buffers, channels: int) -> None:
        self.room = rounded_up(channels, CHANNELS)
        self._sums = workspace(PIXELS * self.room, "int32")
        self._epilogue = Epilogue(body, anchor, buffers)

    def finish(
        self, pixels: int, channels: int, routine: Routine, place: Callable[[Expr, Expr], Sequence[Expr]]
    ) -> None:
        """Elements at the indices `place` of a pixel and a channel in the anchor's output."""
        whole, rest = divmod(pixels, PIXELS)
        if whole:
            with T.serial(whole) as tile:
                self._tile(tile * PIXELS, PIXELS, channels, routine, place)
        if rest:
            self._tile(tirx.const(whole * PIXELS, "int32"), rest, channels, routine, place)

    def _tile(
        self,
        first: Expr,
        pixels: int,
        channels: int,
        routine: Routine,
        place: Callable[[Expr, Expr], Sequence[Expr]],
    ) -> None:
        routine(first, pixels, at(self._sums, 0))
        with T.serial(pixels) as pixel, T.serial(channels) as channel:
            self._epilogue.store(self._sums[pixel * self.room + channel], place(first + pixel, channel))
