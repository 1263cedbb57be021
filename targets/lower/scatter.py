"""Ordered updates: ScatterElements, ScatterND, MaxUnpool. A copy of the data, then one update after another,
so that where two meet the later one acts on what the earlier one left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

from tvm import tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.lower.gather import wrap
from graphopt.targets.lower.kernel import Writer, write_kernel
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import Expr, flat_index, normalise_axis, unflatten, widen

Update = Callable[[Expr, Expr], Expr]
"""(what is there, what comes) -> what stays."""

UPDATES: dict[str, Update] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": tirx.max,
    "min": tirx.min,
}

LOGICAL = {"none": UPDATES["none"], "add": tirx.Or, "max": tirx.Or, "mul": tirx.And, "min": tirx.And}
"""The same for booleans."""


def _update_of(node: Node) -> Update:
    table = LOGICAL if node.output.dtype.label == "bool" else UPDATES
    name = node.str("reduction", "none")
    if name not in table:
        raise UnsupportedError(f"the reduction {name} is unknown", where=where(node))
    if name == "none":
        return table[name]
    return lambda old, new: table[name](widen(old), widen(new)).astype(node.output.dtype.label)


def _scatter_elements(node: Node) -> tirx.PrimFunc:
    """out[i, indices[i, j, k], k] = updates[i, j, k] for axis 1; updates at other i, k never meet."""
    data, indices = node.inputs[:2]
    assert data is not None and indices is not None
    shape, updated = data.static_shape, indices.static_shape
    axis = normalise_axis(node.int("axis"), len(shape))
    update = _update_of(node)

    def build(write: Writer) -> None:
        result, places, updates = write.result(0), write.operand(1), write.operand(2)
        _copy_data(write, math.prod(shape))
        *outer, last = updated

        def step(*at: Expr) -> None:
            place = wrap(places[at], shape[axis])
            target = flat_index([*at[:axis], place, *at[axis + 1 :]], shape)
            result.store(update(result[target], updates[at]), target)

        with ExitStack() as loops:
            at = [
                loops.enter_context(write.each(extent, work=0 if number or axis == 0 else math.prod(updated)))
                for number, extent in enumerate(outer)
            ]
            if axis == len(shape) - 1:
                with write.serial(last) as j:
                    step(*at, j)
            else:
                write.lanes(last, lambda j: step(*at, j), "int32")

    flat = (math.prod(shape),)
    return write_kernel(node, build, [flat, None, None, flat])


def _scatter_nd(node: Node) -> tirx.PrimFunc:
    """out[indices[n]] = updates[n], where an index tuple may name a whole slice."""
    data, indices = node.inputs[:2]
    assert data is not None and indices is not None
    shape = data.static_shape
    *rows, depth = indices.static_shape
    count, size = math.prod(rows), math.prod(shape[depth:])
    update = _update_of(node)

    def build(write: Writer) -> None:
        result, places, updates = write.result(0), write.operand(1), write.operand(2)
        _copy_data(write, math.prod(shape))
        with write.serial(count) as n:
            found = [wrap(places[n, axis], shape[axis]) for axis in range(depth)]
            start = flat_index(found, shape[:depth]) * size
            write.lanes(
                size,
                lambda j: result.store(update(result[start + j], updates[n, j]), start + j),
                result.dtype,
                work=size,
            )

    flat = (math.prod(shape),)
    return write_kernel(node, build, [flat, (count, depth), (count, size), flat])


def _max_unpool(node: Node) -> tirx.PrimFunc:
    """Each pooled element back where it was, zeros elsewhere.

    The indices count in the smallest input that pools to this shape; a larger output has that in its corner.
    """
    x = node.inputs[0]
    assert x is not None
    kernel, pooled = node.ints("kernel_shape"), x.static_shape
    assert kernel is not None
    rank = len(kernel)
    strides, pads = node.ints("strides", (1,) * rank), node.ints("pads", (0,) * 2 * rank)
    assert strides is not None and pads is not None
    spatial = [(pooled[a + 2] - 1) * strides[a] - pads[a] - pads[a + rank] + kernel[a] for a in range(rank)]
    counted, shape = (*pooled[:2], *spatial), node.output.static_shape
    sizes = [(math.prod(pooled),), (math.prod(pooled),), None, (math.prod(shape),)]

    def build(write: Writer) -> None:
        result = write.result(0)
        zero = tirx.const(0, result.dtype)
        write.lanes(math.prod(shape), lambda i: result.store(zero, i), result.dtype, work=math.prod(shape))
        with write.serial(math.prod(pooled)) as n:
            place = unflatten(wrap(write.operand(1)[n], math.prod(counted)), counted)
            result.store(write.operand(0)[n], flat_index(place, shape))

    return write_kernel(node, build, sizes[: len(node.inputs)] + sizes[3:])


def _copy_data(write: Writer, size: int) -> None:
    data, result = write.operand(0), write.result(0)
    write.lanes(size, lambda i: result.store(data[i], i), result.dtype, work=size)


OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {
    "MaxUnpool": _max_unpool,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
