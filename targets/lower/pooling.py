"""MaxPool, AveragePool, LpPool and the global pools, of one to three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.lower.arithmetic import lowest
from graphopt.targets.lower.reducers import greatest
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, flat_index, shape_of, wide_dtype
from graphopt.targets.lower.windows import Window, pad_spatial, window_of


def max_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor | list[te.Tensor]:
    """The maximum of each window; optionally where it is, as an index into the whole tensor."""
    x, window, out = _prepare(node, inputs)
    padded = _padded(x, window, out, lowest(dtype_of(x)))
    taps = window.axes()
    y = te.compute(
        (*shape_of(x)[:2], *out),
        lambda n, c, *o: greatest(padded(n, c, *window.positions(o, taps)), axis=taps),
        name="max_pool",
    )
    if len(node.outputs) == 1 or not (node.outputs[1].uses or node.outputs[1].is_graph_output):
        return y
    return [y, _max_indices(node, x, padded, y, window)]


def _max_indices(node: Node, x: te.Tensor, padded: te.Tensor, y: te.Tensor, window: Window) -> te.Tensor:
    """The first position of the maximum, in row-major (or column-major, `storage_order`) order."""
    batch, channels, *spatial = shape_of(x)
    order = node.int("storage_order")
    last = tirx.max_value("int64")
    taps = window.axes()

    def element(n: Expr, c: Expr, *o: Expr) -> Expr:
        places = window.positions(o, taps)
        inside = [p - b for p, b in zip(places, window.begin, strict=True)]
        plane = flat_index((n, c), (batch, channels)) * math.prod(spatial)
        ordered = list(zip(inside, spatial, strict=True))
        if order:
            ordered.reverse()
        position = plane + flat_index([p for p, _ in ordered], [s for _, s in ordered])
        valid = tirx.all(*(tirx.all(p >= 0, p < s) for p, s in zip(inside, spatial, strict=True)))
        hit = tirx.all(valid, padded(n, c, *places) == y(n, c, *o))
        return te.min(tirx.Select(hit, position.astype("int64"), last), axis=taps)

    return te.compute(y.shape, element, name="max_indices")


def sum_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The sum of each window, of 16-bit floats in float32."""
    x, window, out = _prepare(node, inputs)
    wide = wide_dtype(dtype_of(x))
    padded = _padded(x, window, out, tirx.const(0, x.dtype))
    taps = window.axes()
    return te.compute(
        (*shape_of(x)[:2], *out),
        lambda n, c, *o: te.sum(padded(n, c, *window.positions(o, taps)).astype(wide), axis=taps),
        name="pool_sum",
    )


def average_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The mean of each window; pads count with `count_include_pad`, what lies beyond them never does."""
    x, window, out = _prepare(node, inputs)
    wide = wide_dtype(dtype_of(x))
    total = sum_pool(node, inputs)
    counts = taps_that_count(window, shape_of(x)[2:], out, bool(node.int("count_include_pad")))

    def mean(n: Expr, c: Expr, *o: Expr) -> Expr:
        divisor: Expr = tirx.const(1, wide)
        for index, per_axis in zip(o, counts, strict=True):
            divisor = divisor * table(index, per_axis, wide)
        return total(n, c, *o) / divisor

    return te.compute(total.shape, mean, name="average_pool")


def taps_that_count(
    window: Window, spatial: Sequence[int], out: Sequence[int], with_pads: bool
) -> list[list[int]]:
    """For each axis and output position, how many taps a mean divides by: those inside, or on pads too."""
    result = []
    for axis, size in enumerate(spatial):
        low = 0 if with_pads else window.begin[axis]
        high = size + window.begin[axis] + (window.end[axis] if with_pads else 0)
        result.append(
            [
                sum(
                    low <= o * window.strides[axis] + t * window.dilations[axis] < high
                    for t in range(window.kernel[axis])
                )
                for o in range(out[axis])
            ]
        )
    return result


def table(index: Expr, values: Sequence[int], dtype: str) -> Expr:
    """`values[index]`, as selects where the value changes."""
    result: Expr = tirx.const(values[0], dtype)
    for position in range(1, len(values)):
        if values[position] != values[position - 1]:
            result = tirx.Select(index >= position, tirx.const(values[position], dtype), result)
    return result


def lp_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The p-norm of each window."""
    x, window, out = _prepare(node, inputs)
    padded = _padded(x, window, out, tirx.const(0, x.dtype))
    taps = window.axes()
    return _norm(
        (*shape_of(x)[:2], *out),
        lambda n, c, *o: padded(n, c, *window.positions(o, taps)),
        taps,
        node.int("p", 2),
    )


def _norm(shape: tuple[int, ...], read: Callable[..., Expr], taps: list[tirx.IterVar], p: int) -> te.Tensor:
    def power(value: Expr) -> Expr:
        magnitude = tirx.abs(value)
        if p == 1:
            return magnitude
        return value * value if p == 2 else tirx.power(magnitude, tirx.const(float(p), str(value.ty)))

    total = te.compute(shape, lambda *i: te.sum(power(read(*i)), axis=taps), name="pool_sum")

    def root(*i: Expr) -> Expr:
        value = total(*i)
        if p == 1:
            return value
        return tirx.sqrt(value) if p == 2 else tirx.power(value, tirx.const(1.0 / p, total.dtype))

    return te.compute(shape, root, name="lp_pool")


def _prepare(node: Node, inputs: list[te.Tensor | None]) -> tuple[te.Tensor, Window, tuple[int, ...]]:
    x = inputs[0]
    assert x is not None
    kernel = node.ints("kernel_shape")
    if kernel is None:
        raise UnsupportedError("kernel_shape is missing", where=f"node '{node.name}' ({node.key})")
    return x, window_of(node, kernel, shape_of(x)[2:]), node.output.static_shape[2:]


def _padded(x: te.Tensor, window: Window, out: tuple[int, ...], value: Expr) -> te.Tensor:
    """The input padded as far as the windows reach: with ceil_mode the last one may pass the end pad."""
    reach = [(o - 1) * s + span for o, s, span in zip(out, window.strides, window.span, strict=True)]
    end = [max(r - size - b, 0) for r, size, b in zip(reach, shape_of(x)[2:], window.begin, strict=True)]
    return pad_spatial(x, window.begin, end, value)


def _global(node: Node, inputs: list[te.Tensor | None]) -> tuple[te.Tensor, list[tirx.IterVar]]:
    x = inputs[0]
    assert x is not None
    return x, [te.reduce_axis((0, dim), name=f"r{i}") for i, dim in enumerate(shape_of(x)[2:])]


def global_average_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x, axes = _global(node, inputs)
    wide = wide_dtype(dtype_of(x))
    shape = node.output.static_shape
    total = te.compute(
        shape, lambda n, c, *o: te.sum(x(n, c, *axes).astype(wide), axis=axes), name="pool_sum"
    )
    scale = tirx.const(1.0 / math.prod(shape_of(x)[2:]), wide)
    return te.compute(shape, lambda *i: total(*i) * scale, name="average_pool")


def global_max_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x, axes = _global(node, inputs)
    return te.compute(
        node.output.static_shape, lambda n, c, *o: greatest(x(n, c, *axes), axis=axes), name="max_pool"
    )


def global_lp_pool(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x, axes = _global(node, inputs)
    return _norm(node.output.static_shape, lambda n, c, *o: x(n, c, *axes), axes, node.int("p", 2))


LOWERINGS: dict[str, Lowering] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}

BLOCKED = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
"""Pools that also work on blocked images."""
