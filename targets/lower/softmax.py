"""Softmax, LogSoftmax, Hardmax: the largest element along an axis first, so that no exponential overflows.

Exponentials and their sums are kept in float32 or wider.
"""

from __future__ import annotations

from functools import partial

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.reduction import arg_reduce, kept, reduce_over
from graphopt.targets.lower.tensors import (
    Lowering,
    dtype_of,
    normalise_axis,
    required,
    shape_of,
    wide_dtype,
    widen,
)


def exponentials(x: te.Tensor, axis: int, *, masked: bool = False) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """max(x), exp(x - max) and its sum along `axis`, which is kept with extent 1.

    With `masked`, x may be minus infinity all along the axis: the exponentials are zeros then, and their sum 1.
    """
    shape, axes, dtype = shape_of(x), (axis,), wide_dtype(dtype_of(x))
    common = partial(reduce_over, shape, axes, keepdims=True, dtype=dtype)
    peak = common(lambda *i: widen(x(*i)), te.max, name="peak")
    if masked:
        peak = _bounded_below(peak)
    powers = te.compute(shape, lambda *i: tirx.exp(widen(x(*i)) - peak(*kept(i, axes))), name="powers")
    total = common(powers, te.sum, name="total")
    if masked:
        total = _one_for_zero(total)
    return peak, powers, total


def _bounded_below(x: te.Tensor) -> te.Tensor:
    lowest = tirx.min_value(x.dtype)
    return te.compute(x.shape, lambda *i: tirx.max(x(*i), lowest), name="shift")


def _one_for_zero(x: te.Tensor) -> te.Tensor:
    zero, one = tirx.const(0, x.dtype), tirx.const(1, x.dtype)
    return te.compute(x.shape, lambda *i: tirx.Select(tirx.EQ(x(*i), zero), one, x(*i)), name="divisor")


def softmax(x: te.Tensor, axis: int) -> te.Tensor:
    """exp(x - max) / sum(exp(x - max)) along `axis`."""
    _, powers, total = exponentials(x, axis)
    return te.compute(
        shape_of(x), lambda *i: (powers(*i) / total(*kept(i, (axis,)))).astype(dtype_of(x)), name="softmax"
    )


def _softmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = required(inputs, 0)
    return softmax(x, normalise_axis(node.int("axis", -1), len(x.shape)))


def log_softmax(x: te.Tensor, axis: int) -> te.Tensor:
    """x - max - log(sum(exp(x - max))) along `axis`."""
    peak, _, total = exponentials(x, axis)
    offset = te.compute(peak.shape, lambda *i: peak(*i) + tirx.log(total(*i)), name="offset")
    return te.compute(
        shape_of(x),
        lambda *i: (widen(x(*i)) - offset(*kept(i, (axis,)))).astype(dtype_of(x)),
        name="logsoftmax",
    )


def _log_softmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = required(inputs, 0)
    return log_softmax(x, normalise_axis(node.int("axis", -1), len(x.shape)))


def _hardmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """1 at the first largest element along the axis, 0 elsewhere."""
    x = required(inputs, 0)
    axis = normalise_axis(node.int("axis", -1), len(x.shape))
    best = arg_reduce(x, axis, find_max=True)
    one, zero = tirx.const(1, dtype_of(x)), tirx.const(0, dtype_of(x))
    return te.compute(
        x.shape,
        lambda *i: tirx.Select(tirx.EQ(best(*kept(i, (axis,))), i[axis].astype("int64")), one, zero),
        name="hardmax",
    )


LOWERINGS: dict[str, Lowering] = {
    "Hardmax": _hardmax,
    "LogSoftmax": _log_softmax,
    "Softmax": _softmax,
}
