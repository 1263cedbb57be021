"""Schedules for cores without vectors: loops, one number after the other.

Stages that cost little go into their readers, reductions too, so that no padded, moved or widened copy of a tensor is
made: memory is dearer there than a comparison. A reduction is one variable, finished by what follows it.

    for y: sum[y] = reduce(x)     -->     for y: sum = reduce(x)
    for y: out[y] = f(sum[y])                    out[y] = f(sum)
"""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from graphopt.targets.lower.reducers import register_reducers
from graphopt.targets.schedules.access import is_dear, is_elementwise
from graphopt.targets.schedules.blocks import (
    axis_loops,
    block_names,
    extent,
    is_reduction,
    iterations,
    output_shape,
)
from graphopt.targets.schedules.inline import STORED


def schedule_scalar(sch: Schedule) -> None:
    """Arrange all stages of a lowered group."""
    register_reducers()
    _inline(sch)
    for name in block_names(sch):
        block = sch.get_sblock(name)
        if is_reduction(sch, block):
            _finish_at_once(sch, block)
        elif is_elementwise(sch, block) and len(sch.get_loops(block)) > 1:
            sch.fuse(*sch.get_loops(block))


def _inline(sch: Schedule) -> None:
    """Into every reader, unless what is dear would be computed again."""
    for name in block_names(sch):
        block = sch.get_sblock(name)
        consumers = sch.get_consumers(block)
        if not consumers or is_reduction(sch, block) or STORED in sch.get(block).annotations:
            continue
        read = sum(iterations(sch, consumer) for consumer in consumers)
        if is_dear(sch, block) and read > iterations(sch, block):
            continue
        try:
            sch.compute_inline(block)
        except ScheduleError:
            continue


def _finish_at_once(sch: Schedule, block: SBlockRV) -> None:
    """Move a reduction to its only reader, if that takes each result once, and take its start out of the loops."""
    spatial, reduce = axis_loops(sch, block)
    consumers = sch.get_consumers(block)
    if spatial and len(consumers) == 1 and len(sch.get(block).writes) == 1:
        (reader,) = consumers
        results = math.prod(output_shape(sch, block))
        if not is_reduction(sch, reader) and iterations(sch, reader) == results:
            try:
                sch.compute_at(block, sch.get_loops(reader)[-1], preserve_unit_loops=True)
            except ScheduleError:
                return
            loops = sch.get_loops(block)
            reduce = loops[len(loops) - len(reduce) :]
    _take_start_out(sch, block, reduce)


def _take_start_out(sch: Schedule, block: SBlockRV, reduce: list[LoopRV]) -> None:
    steps = [loop for loop in reduce if extent(sch, loop) > 1]
    if steps:
        sch.decompose_reduction(block, reduce[0])
