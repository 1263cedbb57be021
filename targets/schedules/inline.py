"""Inlining: stages that cost less to compute again than to store disappear into their readers."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from graphopt.targets.schedules.access import is_dear, loads
from graphopt.targets.schedules.blocks import block_names, is_reduction, iterations, written

STORED = "is_stored"
"""Attribute of a stage that its lowering wants stored."""

RECOMPUTE_LIMIT = 4
"""A dear stage is computed again at most this often per element."""


def inline_stages(sch: Schedule) -> None:
    """Inline every stage that may be; padded inputs, results of reductions and what is to be stored stay."""
    for name in block_names(sch):
        block = sch.get_sblock(name)
        consumers = sch.get_consumers(block)
        if not consumers or is_reduction(sch, block) or not _worth(sch, block, consumers):
            continue
        try:
            sch.compute_inline(block)
        except ScheduleError:
            continue


def _worth(sch: Schedule, block: SBlockRV, consumers: list[SBlockRV]) -> bool:
    if STORED in sch.get(block).annotations:
        return False
    made = iterations(sch, block)
    read = sum(iterations(sch, consumer) for consumer in consumers)
    if any(is_reduction(sch, consumer) for consumer in consumers):
        return made == 1 or read <= made
    if not is_dear(sch, block):
        return True
    read = sum(iterations(sch, c) * loads(sch, c, written(sch, block)) for c in consumers)
    return read <= RECOMPUTE_LIMIT * made
