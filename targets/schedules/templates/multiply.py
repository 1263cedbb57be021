"""Tiles of a matrix product: sums in registers, fed by rows of the left factor and vectors of the right one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.sums import Totals, steps_at_once

Left = Callable[[int, Expr], Expr]
"""The left factor's element by (column of the tile, step of the depth)."""

Right = Callable[[Expr, int, Expr], Expr]
"""The right factor's element by (step of the depth, vector of the tile, lane)."""


@dataclass(frozen=True)
class Tile:
    """`parts` sums for each of `columns` x `vectors` vectors of `lanes`."""

    columns: int
    vectors: int
    lanes: int
    parts: int = 1
    dtype: str = "float32"

    @property
    def size(self) -> int:
        return self.columns * self.vectors * self.lanes

    def place(self, part: int, column: Expr | int, vector: int) -> Expr | int:
        """Where the vector lies in the buffer of sums."""
        return part * self.size + (column * self.vectors + vector) * self.lanes

    def places(self) -> Iterator[tuple[int, int, int]]:
        return itertools.product(range(self.parts), range(self.columns), range(self.vectors))

    def sums(self, start: Callable[[int, Expr], Expr] | None = None) -> tirx.Var:
        """The buffer; the first part begins with `start` of (vector, lane), or with zeros as the others do."""
        sums = T.alloc_buffer((self.parts * self.size,), self.dtype, scope="local")
        for part, column, vector in self.places():
            with T.vectorized(self.lanes) as lane:
                begin = tirx.const(0.0, self.dtype) if part or start is None else start(vector, lane)
                T.buffer_store(sums, begin, [self.place(part, column, vector) + lane])
        return sums

    def total(self, sums: tirx.Var, column: int, vector: int, lane: Expr) -> Expr:
        """All parts of a sum, added pairwise."""
        parts = [sums[self.place(part, column, vector) + lane] for part in range(self.parts)]
        while len(parts) > 1:
            parts = [a if b is None else a + b for a, b in itertools.zip_longest(parts[::2], parts[1::2])]
        return parts[0]

    def accumulate(
        self,
        sums: tirx.Var,
        depth: int,
        left: Left,
        right: Right,
        *,
        hold: bool = False,
        task: Expr | int = 0,
    ) -> None:
        """Add the products of all `depth` steps; neighbouring steps go to different parts.

        With `hold` the left factor is read a vector along the depth at a time; the multiply-add picks its lane.
        `task` is the number of the task that does it.
        """
        group = self.lanes if hold else self.parts
        steps = depth // group
        at_once = steps_at_once(self.dtype, steps, group // self.parts)

        def take(sums: tirx.Var, step: Expr) -> None:
            first = step * group
            held = self._held(first, left) if hold else None
            for number in range(group):
                self._step(sums, number % self.parts, first + number, left, right, held, number)

        if at_once >= steps:
            with T.serial(steps) as step:
                take(sums, step)
        else:
            totals = Totals.of(sums, self.parts * self.columns * self.vectors, self.lanes, task)

            def add(first: Expr, count: int) -> None:
                part = self.sums()
                with T.serial(count) as step:
                    take(part, first + step)
                totals.add(part)

            with T.serial(steps // at_once) as number:
                add(number * at_once, at_once)
            if steps % at_once:
                add(tirx.const(steps - steps % at_once, "int32"), steps % at_once)
            totals.fetch(sums)
        for k in range(depth // group * group, depth):
            self._step(sums, 0, tirx.const(k, "int32"), left, right)

    def _held(self, first: Expr, left: Left) -> tirx.Var:
        held = T.alloc_buffer((self.columns * self.lanes,), self.dtype, scope="local")
        for column in range(self.columns):
            with T.vectorized(self.lanes) as lane:
                T.buffer_store(held, left(column, first + lane), [column * self.lanes + lane])
        return held

    def _step(
        self,
        sums: tirx.Var,
        part: int,
        k: Expr,
        left: Left,
        right: Right,
        held: tirx.Var | None = None,
        number: int = 0,
    ) -> None:
        for column in range(self.columns):
            value = left(column, k) if held is None else held[column * self.lanes + number]
            for vector in range(self.vectors):
                with T.vectorized(self.lanes) as lane:
                    place = self.place(part, column, vector) + lane
                    T.buffer_store(sums, sums[place] + value * right(k, vector, lane), [place])
