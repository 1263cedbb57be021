"""Stages without a reduction: contiguous lanes inside, threads outside."""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from graphopt.targets.device import Target
from graphopt.targets.schedules.access import contiguous_axis, is_elementwise, is_guarded_along, variable_of
from graphopt.targets.schedules.blocks import element_bits, extent, widest_bits
from graphopt.targets.schedules.tiling import divisor, lanes, vector_width

PARALLEL_FROM = 32768
"""Elementary operations, multiply-adds or elements; less work is done by one thread. To hand a loop to a thread that
waits for it takes a quarter of a microsecond (measured on x86 at 4 GHz), as long as so many multiply-adds in 16 lanes.
"""

BYTES_AT_ONCE = 16
"""Bytes in the shortest vectors: so many are worth a load, also where they become more floats than a vector holds."""

LONGEST_TILE = 16
"""Rows of a tile in a transposition: a cache line of floats."""

CUT = "pragma_loop_partition_hint"
"""Marks a loop that TVM shall cut into pieces in which a condition on it always holds or never does."""


def schedule_spatial(sch: Schedule, block: SBlockRV, target: Target) -> None:
    """Vectorise the innermost axis, spread the outer ones over threads.

    An axis that no vector divides ends in a shorter vector. An axis along which the source changes (a padded row,
    a concatenation) is cut there.
    """
    loops = sch.get_loops(block)
    work = math.prod(extent(sch, loop) for loop in loops)
    if not loops or not work:
        return
    elementwise = is_elementwise(sch, block)
    width, computed = lanes(target, element_bits(sch, block)), lanes(target, widest_bits(sch, block))
    if not elementwise:
        width = max(computed, min(width, BYTES_AT_ONCE))
    guarded = is_guarded_along(sch, block, variable_of(sch, block, len(loops) - 1))
    if not guarded and (elementwise or extent(sch, loops[-1]) < computed // 2):
        loops = [sch.fuse(*loops)]
    *rest, inner = loops
    rows = _rows(sch, block, rest)
    length = extent(sch, inner)
    vector = vector_width(length, width)
    if length > 1 and (guarded or vector == 1):
        outer, lane = sch.split(inner, [None, min(width, length)])
        sch.reorder(*rest, outer, *rows, lane)
        sch.annotate(outer, CUT, True)
        sch.annotate(lane, CUT, True)
        parallelize(sch, rest or [outer], work)
    else:
        outer, lane = sch.split(inner, [None, vector])
        sch.reorder(*rest, outer, *rows, lane)
        parallelize(sch, [*rest, outer], work)
    sch.vectorize(lane)


def _rows(sch: Schedule, block: SBlockRV, loops: list[LoopRV]) -> list[LoopRV]:
    """For a transposition: a few steps along the axis that its input is contiguous in, to be done for each
    vector, so that they use up the cache lines it loads. Their loop is taken off `loops`, in place.
    """
    axis = contiguous_axis(sch, block)
    if axis is None or axis >= len(loops):
        return []
    steps = divisor(extent(sch, loops[axis]), LONGEST_TILE)
    loops[axis], row = sch.split(loops[axis], [None, steps])
    return [row]


def parallelize(sch: Schedule, loops: list[LoopRV], work: int) -> int:
    """Fuse `loops`, which are nested in this order, and run them in parallel where the work pays for it.

    Returns how many loops are left of them: one.
    """
    fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    if work >= PARALLEL_FROM and extent(sch, fused) > 1:
        sch.parallel(fused)
    return 1
