"""Asking a schedule about its blocks."""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from graphopt.targets.lower.tensors import dtype_of

SPATIAL, REDUCE = 0, 2
"""Values of `IterVar.iter_type` for the two kinds of axes that operators have."""


def block_names(sch: Schedule) -> list[str]:
    """The blocks below the root, in order."""
    return [sch.get(block).name_hint for block in sch.get_child_blocks(sch.get_sblock("root"))]


def is_reduction(sch: Schedule, block: SBlockRV) -> bool:
    return any(int(v.iter_type) == REDUCE for v in sch.get(block).iter_vars)


def extent(sch: Schedule, loop: LoopRV) -> int:
    return int(sch.get(loop).extent)


def axis_loops(sch: Schedule, block: SBlockRV) -> tuple[list[LoopRV], list[LoopRV]]:
    """The spatial and the reduction loops of an untouched block, in order."""
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    loops = sch.get_loops(block)[-len(kinds) :] if kinds else []
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
    reduce = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == REDUCE]
    return spatial, reduce


def iterations(sch: Schedule, block: SBlockRV) -> int:
    return math.prod(int(v.dom.extent) for v in sch.get(block).iter_vars)


def written(sch: Schedule, block: SBlockRV) -> tirx.Var:
    """The buffer a block writes."""
    return sch.get(block).writes[0].source


def output_shape(sch: Schedule, block: SBlockRV) -> tuple[int, ...]:
    return tuple(int(dim) for dim in written(sch, block).ty.shape)


def element_bits(sch: Schedule, block: SBlockRV) -> int:
    """Bits of an element that a block writes."""
    return _bits(written(sch, block))


def widest_bits(sch: Schedule, block: SBlockRV) -> int:
    """Bits of the widest elements that a block writes, or computes with as floats; integers that it reads may be
    indices and lengths."""
    statement = sch.get(block)
    read = [region.source for region in statement.reads if "float" in str(region.source.ty.dtype)]
    widths = [_bits(buffer) for buffer in (*read, written(sch, block))]

    def visit(cast: tirx.Cast) -> None:
        made = dtype_of(cast)
        if made.startswith("float"):
            widths.append(tvm.DataType(made).bits)

    tvm_ffi.structural_walk(statement.body, (tirx.Cast, visit))
    return max(widths)


def _bits(buffer: tirx.Var) -> int:
    return tvm.DataType(str(buffer.ty.dtype)).bits
