"""Schedules: how a kernel's loops use the registers, the lanes, the caches and the cores.

`schedule` looks at the stages of a lowered group. Cheap stages are inlined; each reduction takes the element-wise
stage behind it into its tile; what is left is vectorised and spread over threads. Where no vectors are written there
are loops alone (`scalar`).
"""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.blocks import block_names, is_reduction, output_shape
from graphopt.targets.schedules.inline import inline_stages
from graphopt.targets.schedules.reduction import schedule_reduction
from graphopt.targets.schedules.scalar import schedule_scalar
from graphopt.targets.schedules.spatial import schedule_spatial


def schedule(function: tirx.PrimFunc, body: Graph, target: Target) -> tirx.PrimFunc:
    """The function with its loops arranged for `target`; one that is scheduled already comes back as it is."""
    if function.attrs and function.attrs.get("tirx.is_scheduled"):
        return function
    sch = Schedule(function)
    if not target.writes_vectors:
        schedule_scalar(sch)
        return sch.mod["main"]
    inline_stages(sch)
    done: set[str] = set()
    for name in block_names(sch):
        if name in done:
            continue
        block = sch.get_sblock(name)
        if is_reduction(sch, block):
            epilogue = epilogue_of(sch, block)
            if epilogue is not None:
                done.add(sch.get(epilogue).name_hint)
            schedule_reduction(sch, block, epilogue, target)
        else:
            schedule_spatial(sch, block, target)
    return sch.mod["main"]


def epilogue_of(sch: Schedule, block: SBlockRV) -> SBlockRV | None:
    """The element-wise stage that is the only reader of a reduction, over the same elements."""
    consumers = sch.get_consumers(block)
    if len(consumers) != 1 or is_reduction(sch, consumers[0]):
        return None
    consumer = consumers[0]
    if output_shape(sch, consumer) != output_shape(sch, block):
        return None
    others = [p for p in sch.get_producers(consumer) if sch.get(p).name_hint != sch.get(block).name_hint]
    return None if any(is_reduction(sch, p) for p in others) else consumer
