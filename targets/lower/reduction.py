"""Reductions: Reduce*, ArgMax, ArgMin. Sums of 16-bit floats are kept in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.arithmetic import divide, highest, is_float, lowest
from graphopt.targets.lower.reducers import largest, smallest
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    dtype_of,
    fill,
    integers,
    normalise_axis,
    required,
    shape_of,
    wide_dtype,
    widen,
)

Element = Callable[..., Expr]
"""From indices to an element."""


product = te.comm_reducer(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype), name="product")
any_of = te.comm_reducer(lambda a, b: tirx.Or(a, b), lambda dtype: tirx.const(False, dtype), name="any_of")
all_of = te.comm_reducer(lambda a, b: tirx.And(a, b), lambda dtype: tirx.const(True, dtype), name="all_of")

EMPTY = {te.sum: 0.0, product: 1.0, largest: -math.inf, smallest: math.inf, any_of: False, all_of: True}
"""What a reduction over nothing gives."""


def reduce_over(
    shape: Sequence[int],
    axes: Sequence[int],
    element: Element,
    combine: Callable[..., Expr],
    *,
    keepdims: bool,
    dtype: str,
    name: str,
) -> te.Tensor:
    """One stage: `combine` (te.sum, te.max, ...) of `element(*indices)` over `axes` of a space of `shape`."""
    extents = [1 if a in axes else d for a, d in enumerate(shape) if keepdims or a not in axes]
    if any(shape[a] == 0 for a in axes):
        return fill(extents, _empty(combine, dtype), dtype, name)
    reduced = {a: te.reduce_axis((0, shape[a]), f"k{a}") for a in axes}

    def value(*indices: Expr) -> Expr:
        rest = iter(indices)
        full = []
        for axis in range(len(shape)):
            if axis in reduced:
                full.append(reduced[axis])
                if keepdims:
                    next(rest)
            else:
                full.append(next(rest))
        return combine(element(*full), axis=list(reduced.values())) if reduced else element(*full)

    return te.compute(tuple(extents), value, name=name)


def kept(indices: Sequence[Expr], axes: Sequence[int]) -> list[Expr]:
    """The place of a result that was reduced over `axes` and keeps them with extent 1."""
    return [0 if a in axes else i for a, i in enumerate(indices)]


def _empty(combine: Callable[..., Expr], dtype: str) -> float | int | bool:
    value = EMPTY[combine]
    if dtype == "bool" or is_float(dtype):
        return value
    if math.isinf(value):
        return int((tirx.max_value if value > 0 else tirx.min_value)(dtype).value)
    return int(value)


def reduced_axes(node: Node, rank: int) -> list[int]:
    """The axes a Reduce operator reduces: all of them without `axes`, unless noop_with_empty_axes."""
    axes = integers(node, 1)
    if not axes:
        return [] if node.int("noop_with_empty_axes") else list(range(rank))
    return sorted({normalise_axis(a, rank) for a in axes})


def _reduce(
    combine: Callable[..., Expr],
    before: Callable[[Expr], Expr] = lambda v: v,
    after: Callable[[Expr, int], Expr] | None = None,
) -> Lowering:
    """after(combine(before(x))); `after` also gets the number of elements that were reduced."""

    def lower(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
        x = inputs[0]
        assert x is not None
        shape = shape_of(x)
        axes = reduced_axes(node, len(shape))
        count = math.prod(shape[a] for a in axes)
        step = {largest: any_of, smallest: all_of}.get(combine, combine) if dtype_of(x) == "bool" else combine
        total = reduce_over(
            shape,
            axes,
            lambda *i: before(widen(x(*i))),
            step,
            keepdims=bool(node.int("keepdims", 1)),
            dtype=wide_dtype(dtype_of(x)),
            name=node.op_type.lower(),
        )
        if after is None and dtype_of(total) == dtype_of(x):
            return total

        def finish(*i: Expr) -> Expr:
            value = total(*i) if after is None else after(total(*i), count)
            return value if dtype_of(value) == dtype_of(x) else value.astype(dtype_of(x))

        return te.compute(total.shape, finish, name="finish")

    return lower


def _mean(total: Expr, count: int) -> Expr:
    if not count and is_float(dtype_of(total)):
        return total * tirx.const(math.nan, dtype_of(total))
    return divide(total, tirx.const(max(count, 1), dtype_of(total)))


def _float_function(function: Callable[[Expr], Expr]) -> Callable[[Expr, int], Expr]:
    """Apply to a float, or by way of one to an integer."""

    def apply(total: Expr, count: int) -> Expr:
        dtype = dtype_of(total)
        return function(total) if is_float(dtype) else function(total.astype("float64")).astype(dtype)

    return apply


def _log_sum_exp(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """m + log(sum(exp(x - m))) with m = max(x), so that nothing overflows."""
    x = required(inputs, 0)
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    axes = reduced_axes(node, len(shape))
    common = partial(reduce_over, shape, axes, dtype=dtype)
    peak = common(lambda *i: widen(x(*i)), largest, keepdims=True, name="peak")
    shift = te.compute(
        peak.shape,
        lambda *i: tirx.Select(tirx.isinf(peak(*i)), tirx.const(0, dtype), peak(*i)),
        name="shift",
    )

    def centred(*i: Expr) -> Expr:
        return tirx.exp(widen(x(*i)) - shift(*kept(i, axes)))

    total = common(centred, te.sum, keepdims=True, name="total")
    keep = bool(node.int("keepdims", 1))

    def finish(*i: Expr) -> Expr:
        rest = iter(i)
        at = [next(rest) if keep or a not in axes else 0 for a in range(len(shape))]
        return (tirx.log(total(*at)) + shift(*at)).astype(dtype_of(x))

    extents = [1 if a in axes else d for a, d in enumerate(shape) if keep or a not in axes]
    return te.compute(tuple(extents), finish, name="logsumexp")


def arg_reduce(x: te.Tensor, axis: int, *, find_max: bool, last: bool = False) -> te.Tensor:
    """int64 positions of the largest (smallest) elements along `axis`, which is kept with extent 1.

    Among equals the first, or with `last` the last.
    """
    shape = shape_of(x)

    def better(left: Sequence[Expr], right: Sequence[Expr]) -> Sequence[Expr]:
        beats = right[1] > left[1] if find_max else right[1] < left[1]
        earlier = right[0] > left[0] if last else right[0] < left[0]
        take = tirx.Or(beats, tirx.And(tirx.EQ(right[1], left[1]), earlier))
        return tuple(tirx.Select(take, r, l) for l, r in zip(left, right, strict=True))

    def identity(index: str, value: str) -> Sequence[Expr]:
        worst = lowest(value) if find_max else highest(value)
        return tirx.const(-1 if last else shape[axis], index), worst

    best = te.comm_reducer(better, identity, name="best")
    k = te.reduce_axis((0, shape[axis]), "k")

    def pair(*i: Expr) -> Sequence[Expr]:
        value = widen(x(*i[:axis], k, *i[axis + 1 :]))
        if dtype_of(value) in ("uint8", "uint16"):
            value = value.astype("int32")
        elif dtype_of(value) in ("uint32", "uint64"):
            value = value.astype("int64")
        return best((k.var.astype("int64"), value), axis=k)

    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    return te.compute(kept, pair, name="argmax" if find_max else "argmin")[0]


def _arg(find_max: bool) -> Lowering:
    def lower(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
        x = inputs[0]
        assert x is not None
        axis = normalise_axis(node.int("axis"), len(x.shape))
        found = arg_reduce(x, axis, find_max=find_max, last=bool(node.int("select_last_index")))
        if node.int("keepdims", 1):
            return te.compute(found.shape, lambda *i: found(*i), name="position")
        kept = [d for a, d in enumerate(shape_of(x)) if a != axis]
        return te.compute(tuple(kept), lambda *i: found(*i[:axis], 0, *i[axis:]), name="position")

    return lower


LOWERINGS: dict[str, Lowering] = {
    "ArgMax": _arg(True),
    "ArgMin": _arg(False),
    "ReduceL1": _reduce(te.sum, before=tirx.abs),
    "ReduceL2": _reduce(te.sum, before=lambda v: v * v, after=_float_function(tirx.sqrt)),
    "ReduceLogSum": _reduce(te.sum, after=_float_function(tirx.log)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _reduce(largest),
    "ReduceMean": _reduce(te.sum, after=_mean),
    "ReduceMin": _reduce(smallest),
    "ReduceProd": _reduce(product),
    "ReduceSum": _reduce(te.sum),
    "ReduceSumSquare": _reduce(te.sum, before=lambda v: v * v),
}
