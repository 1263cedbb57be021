"""Reductions: convolutions, matrix products, pools, sums and maxima.

Two ways to use vector lanes. *Across*: neighbouring outputs in the lanes of one accumulator, several accumulators
in registers, the reduction outside; right when reads are contiguous along the last output axis. *Along*: the
reduction itself in lanes, added up at the end; right when reads are contiguous along the reduction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from graphopt.targets.device import Target
from graphopt.targets.lower.reducers import register_reducers
from graphopt.targets.schedules.access import is_strided, reading_without, variable_of
from graphopt.targets.schedules.blocks import (
    axis_loops,
    block_names,
    element_bits,
    extent,
    iterations,
    output_shape,
)
from graphopt.targets.schedules.spatial import parallelize
from graphopt.targets.schedules.tiling import divisor, lanes, vector_width

UNROLLED_TAPS = 4
"""An innermost reduction loop of up to so many steps is unrolled."""


@dataclass(frozen=True)
class Decisions:
    """`rows` x `vectors` accumulators of `width` lanes; `row_axis` is the output axis of the rows (-1: none)."""

    rows: int
    vectors: int
    width: int
    row_axis: int


def defaults(sch: Schedule, block: SBlockRV, target: Target) -> Decisions:
    """As many accumulators as leave registers for the operands."""
    shape = output_shape(sch, block)
    width = vector_width(shape[-1], lanes(target, element_bits(sch, block)))
    last = variable_of(sch, block, len(shape) - 1)
    rows_from = [axis for axis in reading_without(sch, block, last) if axis < len(shape) - 1]
    row_axis = rows_from[-1] if rows_from else -1
    registers = target.vector_registers // 2
    per_vector = max(1, math.ceil(width / lanes(target, element_bits(sch, block))))
    vectors = divisor(shape[-1] // width, 2) if row_axis >= 0 else divisor(shape[-1] // width, 4)
    rows = divisor(shape[row_axis], max(registers // (vectors * per_vector), 1)) if row_axis >= 0 else 1
    return Decisions(rows, vectors, width, row_axis)


def schedule_reduction(sch: Schedule, block: SBlockRV, epilogue: SBlockRV | None, target: Target) -> None:
    """Schedule a reduction and the element-wise stage that follows it, if there is one."""
    register_reducers()
    if not output_shape(sch, block):
        _one_result(sch, block, target)
        return
    if _lanes_along(sch, block) and _along(sch, block, epilogue, target):
        return
    _across(sch, block, epilogue or sch.cache_write(block, 0, "global"), target)


def _lanes_along(sch: Schedule, block: SBlockRV) -> bool:
    shape = output_shape(sch, block)
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    inner = max((axis for axis, dim in enumerate(shape) if dim > 1), default=-1)
    if inner < 0:
        return True
    return is_strided(sch, block, variable_of(sch, block, inner)) and 2 in kinds


def _across(sch: Schedule, block: SBlockRV, driver: SBlockRV, target: Target) -> None:
    chosen = defaults(sch, block, target)
    work = iterations(sch, block)
    loops = sch.get_loops(driver)
    *outer, last = loops
    vector_outer, _ = sch.split(last, [None, chosen.vectors * chosen.width])
    inner_rows: list[LoopRV] = []
    if chosen.row_axis >= 0 and chosen.rows > 1:
        outer[chosen.row_axis], row = sch.split(outer[chosen.row_axis], [None, chosen.rows])
        inner_rows = [row]
    sch.reorder(*outer, vector_outer, *inner_rows)
    sch.compute_at(block, vector_outer, preserve_unit_loops=True)
    # Threads come first: a loop around a reduction that is taken apart can no longer be marked.
    depth = parallelize(sch, outer or [vector_outer], work) + (1 if outer else 0)
    _tile_sums(sch, block, depth, len(loops), chosen)
    _vectorise_tail(sch, driver, depth, chosen.width)


def _tile_sums(sch: Schedule, block: SBlockRV, depth: int, rank: int, chosen: Decisions) -> None:
    """Order the sums of one tile: reduction outside, rows and vectors unrolled inside."""
    inner = sch.get_loops(block)[depth:]
    spatial, reduce = inner[:rank], inner[rank:]
    unit = [loop for loop in spatial[:-1] if extent(sch, loop) == 1]
    rows = [loop for loop in spatial[:-1] if extent(sch, loop) > 1]
    vectors, lane = sch.split(spatial[-1], [None, chosen.width])
    sch.reorder(*unit, *reduce, *rows, vectors, lane)
    sch.vectorize(lane)
    for loop in (*rows, vectors):
        sch.unroll(loop)
    if extent(sch, reduce[-1]) <= UNROLLED_TAPS:
        sch.unroll(reduce[-1])
    start = sch.decompose_reduction(block, reduce[0])
    *others, lane = sch.get_loops(start)[depth + len(unit) :]
    sch.vectorize(lane)
    for loop in others:
        sch.unroll(loop)


def _vectorise_tail(sch: Schedule, driver: SBlockRV, depth: int, width: int) -> None:
    inner = sch.get_loops(driver)[depth:]
    if extent(sch, inner[-1]) > width:
        vectors, lane = sch.split(inner[-1], [None, width])
        inner = [*inner[:-1], vectors, lane]
    sch.vectorize(inner[-1])
    for loop in inner[:-1]:
        sch.unroll(loop)


def _along(sch: Schedule, block: SBlockRV, epilogue: SBlockRV | None, target: Target) -> bool:
    """Lanes along the reduction; False, with nothing changed, where the reduction cannot be split so."""
    spatial, reduce = axis_loops(sch, block)
    width = lanes(target, element_bits(sch, block))
    total = math.prod(extent(sch, loop) for loop in reduce)
    inner = vector_width(total, width)
    if total < 2 * width or inner == 1 or len(sch.get(block).writes) > 1:
        return False
    work = iterations(sch, block)
    whole = sch.fuse(*reduce) if len(reduce) > 1 else reduce[0]
    _, lane = sch.split(whole, [None, inner])
    try:
        partial = sch.rfactor(lane, len(output_shape(sch, block)))
    except ScheduleError:
        return False
    driver = epilogue or block
    outers = sch.get_loops(driver)[: len(spatial)]
    if epilogue is not None:
        sch.compute_at(block, outers[-1], preserve_unit_loops=True)
    sch.compute_at(partial, outers[-1], preserve_unit_loops=True)
    parallelize(sch, outers, work)
    # The lane is the first axis of the partial sums; the outputs' axes are single steps here.
    lane_loop, *rest = sch.get_loops(partial)[1:]
    units, steps = rest[: len(spatial)], rest[len(spatial) :]
    sch.reorder(*units, *steps, lane_loop)
    sch.vectorize(lane_loop)
    start = sch.decompose_reduction(partial, steps[0])
    sch.vectorize(sch.get_loops(start)[-1])
    return True


def _one_result(sch: Schedule, block: SBlockRV, target: Target) -> None:
    """A scalar result: the reduction in lanes where it divides."""
    _, reduce = axis_loops(sch, block)
    total = math.prod(extent(sch, loop) for loop in reduce)
    inner = vector_width(total, lanes(target, element_bits(sch, block)))
    if inner == 1 or len(sch.get(block).writes) > 1:
        return
    for name in block_names(sch):  # rfactor stumbles over a block without a loop
        if not sch.get_loops(sch.get_sblock(name)):
            sch.add_unit_loop(sch.get_sblock(name))
    whole = sch.fuse(*reduce) if len(reduce) > 1 else reduce[0]
    _, lane = sch.split(whole, [None, inner])
    try:
        partial = sch.rfactor(lane, 0)
    except ScheduleError:
        return
    sch.vectorize(sch.get_loops(partial)[-1])
