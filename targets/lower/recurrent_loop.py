"""The parts of a recurrent kernel that all three operators share.

The input projection X W^T + b has no recurrence: it is computed first, for all steps, as one matrix product in
register tiles. A step then adds h R^T, hidden units in lanes, and the cell's functions follow in the same lanes.
The hidden state is kept twice, before and after a step, so that the tiles of a step are independent.

A step runs its tiles in parallel where that pays for waking the threads; else the directions run in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.kernel import Literal, Memory, Writer
from graphopt.targets.lower.recurrent_layout import Sizes
from graphopt.targets.lower.tensors import Expr

Read = Callable[..., Expr]
"""The element at the given indices."""

STEP_PARALLEL_FROM = 1 << 17
"""Multiplications of one step. The threads wait for each other after every step, so less is done by one."""


MACS_PER_OPERATION = 16
"""Products in lanes and registers cost a fraction of what a loop's elementary operations cost."""


@dataclass(frozen=True)
class Place:
    """Where a step works: tile `tile` of direction `direction` at step `step`."""

    direction: Expr
    step: Expr
    tile: Expr


Phase = Callable[[Place], None]
"""Emits a part of a step for one tile. All tiles finish a phase before any begins the next."""


@dataclass(frozen=True)
class Recurrence:
    """The buffers of a recurrence, and how a step reads and writes them.

    `projected` [directions, rows, tiles, gates, lanes] holds X W^T + b, where a row is one step of one sequence
    in the order of X. `hidden` [2, directions, batch, padded] is the state before and after a step. `weights`
    reads R by (direction, tile, hidden unit, gate, lane). `lengths` reads the steps of each sequence; without it
    all have the same. `backward` tells of each direction whether it runs backwards. `y` is the output of all
    steps, where it is wanted.
    """

    writer: Writer
    sizes: Sizes
    dtype: str
    weights: Read
    lengths: Read | None
    backward: tuple[bool, ...]
    y: Memory | None
    projected: Memory
    hidden: Memory

    def run(self, phases: Sequence[Phase], directions: Sequence[int]) -> None:
        """Emit all steps of `directions`, which are neighbours."""
        sizes, first, count = self.sizes, directions[0], len(directions)
        work = count * sizes.step_macs
        if work >= STEP_PARALLEL_FROM:
            with T.serial(0, sizes.steps) as step:
                for phase in phases:
                    with T.parallel(0, count * sizes.tiles) as index:
                        d, tile = split(index, sizes.tiles)
                        phase(Place(first + d, step, tile))
            return
        whole = work * sizes.steps // MACS_PER_OPERATION
        with self.writer.each(count, work=whole) as d, T.serial(0, sizes.steps) as step:
            for phase in phases:
                with T.serial(0, sizes.tiles) as tile:
                    phase(Place(first + d, step, tile))

    def sequences(self, gates: int) -> Iterator[tuple[Expr, int]]:
        """Blocks of sequences whose sums for `gates` gates fit into the registers: (first, count)."""
        for start, number, size in blocks(self.sizes.batch, max(self.sizes.accumulators // gates, 1)):
            with T.serial(0, number) as block:
                yield start + block * size, size

    def sums(
        self, place: Place, first: Expr, count: int, gates: Sequence[int], start: Read, state: Read
    ) -> Memory:
        """A buffer [count, gates, lanes]: `start` plus `state` R^T, for `count` sequences from `first` on.

        `start` reads by (sequence, gate, lane), `state` by (sequence, hidden unit).
        """
        lanes = self.sizes.lanes
        sums = self.writer.scratch((count, len(gates), lanes), self.dtype)
        pairs = [(row, number, gate) for row in range(count) for number, gate in enumerate(gates)]
        for row, number, gate in pairs:
            with T.vectorized(0, lanes) as lane:
                sums.store(start(first + row, gate, lane), row, number, lane)
        with T.serial(0, self.sizes.hidden) as k:
            for row, number, gate in pairs:
                with T.vectorized(0, lanes) as lane:
                    weight = self.weights(place.direction, place.tile, k, gate, lane).astype(self.dtype)
                    term = state(first + row, k) * weight
                    sums.store(sums[row, number, lane] + term, row, number, lane)
        return sums

    def unit(self, place: Place, lane: Expr) -> Expr:
        return place.tile * self.sizes.lanes + lane

    def projection(self, place: Place) -> Read:
        """X W^T + b of a step by (sequence, gate, lane)."""
        d, tile = place.direction, place.tile
        return lambda b, gate, lane: self.projected[d, self._row(place, b), tile, gate, lane]

    def state(self, place: Place) -> Read:
        """The state before a step by (sequence, hidden unit)."""
        return lambda b, unit: self.hidden[tirx.indexmod(place.step, 2), place.direction, b, unit]

    def is_running(self, place: Place, b: Expr) -> Expr | None:
        """Whether the step is one of sequence `b`; None where it always is."""
        return None if self.lengths is None else place.step < self._length(b)

    def keep_unless_running(self, place: Place, b: Expr, new: Expr, old: Expr) -> Expr:
        running = self.is_running(place, b)
        return new if running is None else tirx.Select(running, new, old)

    def finish(self, place: Place, b: Expr, value: Callable[[Expr], Expr]) -> None:
        """Make `value` of each lane the state after the step, and put it into the output."""
        sizes, after = self.sizes, tirx.indexmod(place.step + 1, 2)
        with T.vectorized(0, sizes.lanes) as lane:
            unit = self.unit(place, lane)
            old = self.state(place)(b, unit)
            new = self.keep_unless_running(place, b, value(lane), old)
            self.hidden.store(new, after, place.direction, b, unit)
        if self.y is None:
            return
        whole = sizes.padded == sizes.hidden
        rest = tirx.min(sizes.lanes, sizes.hidden - place.tile * sizes.lanes)
        with T.vectorized(0, sizes.lanes) if whole else T.serial(0, rest) as lane:
            unit, dtype = self.unit(place, lane), self.y.dtype
            new = self.hidden[after, place.direction, b, unit]
            shown = self.keep_unless_running(place, b, new, tirx.const(0, self.dtype)).astype(dtype)
            time = self._time(place, b)
            outer = (b, time, place.direction) if sizes.batch_first else (time, place.direction, b)
            self.y.store(shown, *outer, unit)

    def _length(self, b: Expr) -> Expr:
        assert self.lengths is not None
        return tirx.min(self.lengths(b).astype("int32"), self.sizes.steps)

    def _time(self, place: Place, b: Expr) -> Expr:
        """The time that sequence `b` is at; steps behind the end of a sequence are in order."""
        if not any(self.backward):
            return place.step
        length = tirx.const(self.sizes.steps, "int32") if self.lengths is None else self._length(b)
        mirrored = length - 1 - place.step
        conditions = [] if self.lengths is None else [place.step < length]
        if not all(self.backward):
            conditions.append(tirx.EQ(place.direction, self.backward.index(True)))
        return tirx.Select(tirx.all(*conditions), mirrored, place.step) if conditions else mirrored

    def _row(self, place: Place, b: Expr) -> Expr:
        time = self._time(place, b)
        return b * self.sizes.steps + time if self.sizes.batch_first else time * self.sizes.batch + b


def project(
    writer: Writer, sizes: Sizes, x: Memory | Literal, weights: Read, bias: Read, projected: Memory
) -> None:
    """projected = X W^T + bias.

    `weights` reads by (direction, tile, gate, input, lane), `bias` by (direction, tile, gate, lane).
    """
    rows, lanes, dtype = sizes.steps * sizes.batch, sizes.lanes, projected.dtype
    inner = sizes.batch if not sizes.batch_first else sizes.steps
    columns = sizes.directions * sizes.tiles * sizes.gates
    work = columns * lanes * rows * sizes.inputs
    with writer.each(columns, work=work // MACS_PER_OPERATION) as column:
        d, rest = split(column, sizes.tiles * sizes.gates)
        tile, gate = split(rest, sizes.gates)
        for start, number, count in blocks(rows, sizes.accumulators):
            with T.serial(0, number) as block:
                first = start + block * count
                sums = writer.scratch((count, lanes), dtype)
                for row in range(count):
                    with T.vectorized(0, lanes) as lane:
                        sums.store(bias(d, tile, gate, lane), row, lane)
                with T.serial(0, sizes.inputs) as i:
                    for row in range(count):
                        value = x[(*split(first + row, inner), i)].astype(dtype)
                        with T.vectorized(0, lanes) as lane:
                            weight = weights(d, tile, gate, i, lane).astype(dtype)
                            sums.store(sums[row, lane] + value * weight, row, lane)
                for row in range(count):
                    with T.vectorized(0, lanes) as lane:
                        projected.store(sums[row, lane], d, first + row, tile, gate, lane)


def split(index: Expr, extent: int) -> tuple[Expr, Expr]:
    return tirx.indexdiv(index, extent), tirx.indexmod(index, extent)


def blocks(extent: int, limit: int) -> list[tuple[int, int, int]]:
    """(start, blocks, size): the full blocks of `limit` that `extent` holds, then one of the rest."""
    full = extent // limit
    ranges = [(0, full, limit), (full * limit, 1, extent % limit)]
    return [r for r in ranges if r[1] and r[2]]
