"""How a block walks through memory: which axes its reads are contiguous in."""

from __future__ import annotations

import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

CHEAP_CALLS = frozenset(
    {"prim.if_then_else", "prim.likely", "tirx.fabs", "tirx.isinf", "tirx.isnan", "tirx.reinterpret"}
)


def uses(expression: tirx.Expr, variable: tirx.Var) -> bool:
    found = []
    tvm_ffi.structural_walk(
        expression, (tirx.Var, lambda v: found.append(v) if v.same_as(variable) else None)
    )
    return bool(found)


def is_strided(sch: Schedule, block: SBlockRV, variable: tirx.Var) -> bool:
    """Some read moves by more than its innermost axis when `variable` moves."""
    for region in sch.get(block).reads:
        shape = [int(dim) for dim in region.source.ty.shape]
        last = max((axis for axis, dim in enumerate(shape) if dim > 1), default=-1)
        for axis, bounds in enumerate(region.region):
            if axis != last and shape[axis] > 1 and uses(bounds.min, variable):
                return True
    return False


def contiguous_axis(sch: Schedule, block: SBlockRV) -> int | None:
    """The output axis along which an input is contiguous that is strided along the last one; None: there is no
    such input."""
    variables = [iterator.var for iterator in sch.get(block).iter_vars]
    for region in sch.get(block).reads:
        places = [bounds.min for bounds in region.region]
        if not places or uses(places[-1], variables[-1]):
            continue
        along = [axis for axis, variable in enumerate(variables) if uses(places[-1], variable)]
        if along and any(uses(place, variables[-1]) for place in places[:-1]):
            return along[-1]
    return None


def is_elementwise(sch: Schedule, block: SBlockRV) -> bool:
    """Every read is at the very place that is written."""
    statement = sch.get(block)
    target = [bounds.min for bounds in statement.writes[0].region]
    return all(
        len(region.region) == len(target)
        and all(bounds.min.same_as(place) for bounds, place in zip(region.region, target, strict=True))
        for region in statement.reads
    )


COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE)


def is_guarded_along(sch: Schedule, block: SBlockRV, variable: tirx.Var) -> bool:
    """Whether something is read at all changes with `variable`, and at places that are known."""
    comparisons: list[tirx.Expr] = []

    def collect(call: ir.Call) -> None:
        if getattr(call.op, "name", "") == "prim.if_then_else":
            tvm_ffi.structural_walk(call.args[0], (COMPARISONS, lambda test: comparisons.append(test)))

    tvm_ffi.structural_walk(sch.get(block).body, (ir.Call, collect))
    along = [test for test in comparisons if uses(test, variable)]
    return bool(along) and not any(_uses_another(test, variable) for test in along)


def _uses_another(expression: tirx.Expr, variable: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(
        expression, (tirx.Var, lambda v: None if v.same_as(variable) else found.append(v))
    )
    return bool(found)


def is_dear(sch: Schedule, block: SBlockRV) -> bool:
    """It calls functions such as exp, or divides: not to be computed again for every reader."""
    found: list[ir.Call] = []

    def visit(call: ir.Call) -> None:
        name = getattr(call.op, "name", "")
        if name not in CHEAP_CALLS:
            found.append(call)

    tvm_ffi.structural_walk(sch.get(block).body, (ir.Call, visit))
    return bool(found)


def loads(sch: Schedule, block: SBlockRV, buffer: tirx.Var) -> int:
    """How often one iteration of a block reads `buffer`, as it is written."""
    found: list[ir.TensorLoad] = []

    def visit(load: ir.TensorLoad) -> None:
        if load.source.same_as(buffer):
            found.append(load)

    tvm_ffi.structural_walk(sch.get(block).body, (ir.TensorLoad, visit))
    return len(found)


def variable_of(sch: Schedule, block: SBlockRV, axis: int) -> tirx.Var:
    """The block variable of axis number `axis`."""
    return sch.get(block).iter_vars[axis].var


def reading_without(sch: Schedule, block: SBlockRV, variable: tirx.Var) -> list[int]:
    """Spatial axes that some read depends on while it does not depend on `variable`: tiling them reuses
    what the other reads load."""
    statement = sch.get(block)
    found = []
    for axis, iterator in enumerate(statement.iter_vars):
        if int(iterator.iter_type) != 0 or iterator.var.same_as(variable):
            continue
        for region in statement.reads:
            places = [bounds.min for bounds in region.region]
            depends = any(uses(place, iterator.var) for place in places)
            if depends and not any(uses(place, variable) for place in places):
                found.append(axis)
                break
    return found
