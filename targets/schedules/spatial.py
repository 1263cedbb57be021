"""Stages without a reduction: contiguous lanes inside, threads outside."""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from graphopt.targets.device import Target
from graphopt.targets.schedules.access import is_elementwise
from graphopt.targets.schedules.blocks import element_bits, extent
from graphopt.targets.schedules.tiling import lanes, vector_width

PARALLEL_FROM = 32768
"""Elementary operations; less work than this is done before other threads wake up."""


def schedule_spatial(sch: Schedule, block: SBlockRV, target: Target) -> None:
    """Vectorise the innermost axis, spread the outer ones over threads."""
    loops = sch.get_loops(block)
    work = math.prod(extent(sch, loop) for loop in loops)
    if not loops or not work:
        return
    width = lanes(target, element_bits(sch, block))
    if is_elementwise(sch, block) or extent(sch, loops[-1]) < width // 2:
        loops = [sch.fuse(*loops)]
    inner = loops[-1]
    vector = vector_width(extent(sch, inner), width)
    outer, lane = sch.split(inner, [None, vector])
    sch.vectorize(lane)
    parallelize(sch, [*loops[:-1], outer], work)


def parallelize(sch: Schedule, loops: list[LoopRV], work: int) -> int:
    """Fuse `loops`, which are nested in this order, and run them in parallel where the work pays for it.

    Returns how many loops are left of them: one.
    """
    fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    if work >= PARALLEL_FROM and extent(sch, fused) > 1:
        sch.parallel(fused)
    return 1
