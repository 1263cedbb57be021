"""GridSample and AffineGrid: a tensor read at places that another tensor gives.

A grid holds, for each output element, a place in [-1, 1] on each spatial axis, the last axis first. Stages: `place`
(the place in elements, brought inside as `padding_mode` says), then a weighted sum of the elements around it, shared
by all channels. Jaderberg et al., "Spatial Transformer Networks" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.arithmetic import is_float, round_half_even
from graphopt.targets.lower.resize import keys_kernel
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, integers, shape_of, wide_dtype, widen

CUBIC_COEFFICIENT = -0.75
UNROLLED_TAPS = 8


def grid_sample(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (N, C, *spatial) and grid (N, *out, rank) -> (N, C, *out)."""
    x, grid = inputs
    assert x is not None and grid is not None
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
        node.str("mode", "linear"), node.str("mode", "linear")
    )
    borders = [_Border(node, size) for size in shape_of(x)[2:]]
    places = _places(grid, borders, nearest=mode == "nearest")
    out = (*shape_of(x)[:2], *shape_of(grid)[1:-1])
    if mode == "nearest":

        def nearest(n: Expr, c: Expr, *o: Expr) -> Expr:
            at = [places(n, *o, a).astype("int32") for a in range(len(borders))]
            return _pixel(x, n, c, at, borders)

        return te.compute(out, nearest, name="grid_sample")
    return _interpolated(x, places, borders, out, 1 if mode == "linear" else 2)


class _Border:
    """One spatial axis: its `size`, and the span [low, high] that counts as inside."""

    def __init__(self, node: Node, size: int) -> None:
        self.size = size
        self.aligned = bool(node.int("align_corners"))
        self.padding = node.str("padding_mode", "zeros")
        self.low = 0.0 if self.aligned else -0.5
        self.high = size - 1.0 if self.aligned else size - 0.5

    def denormalised(self, place: Expr) -> Expr:
        """From [-1, 1] to elements."""
        if self.aligned:
            return (place + 1.0) / 2.0 * float(self.size - 1)
        return ((place + 1.0) * float(self.size) - 1.0) / 2.0

    def inside(self, place: Expr) -> Expr:
        """A place that may be far outside, where the elements around it are defined."""
        if self.padding == "reflection":
            return self.reflected(place)
        reach = 0.0 if self.padding == "border" else 3.0
        kind = dtype_of(place)
        low, high = tirx.const(-reach, kind), tirx.const(self.size - 1 + reach, kind)
        clamped = tirx.max(tirx.min(place, high), low)
        if self.padding == "zeros":
            return clamped
        return tirx.Select(tirx.any(place < self.low, place > self.high), clamped, place)

    def reflected(self, place: Expr) -> Expr:
        """Mirrored at both ends as often as it takes: a triangle wave."""
        kind = dtype_of(place)
        low, span = tirx.const(self.low, kind), tirx.const(self.high - self.low, kind)
        if self.high == self.low:
            return low
        beyond = tirx.abs(place - low)
        phase = beyond - tirx.floor(beyond / (span * 2.0)) * (span * 2.0)
        return low + span - tirx.abs(phase - span)

    def index(self, i: Expr) -> Expr:
        """The element at integer place `i`, at most two elements outside."""
        if self.padding == "reflection":
            beyond = 0 if self.aligned else 1
            i = tirx.max(i, -beyond - i)
            i = tirx.min(i, 2 * self.size - 2 + beyond - i)
        return tirx.max(tirx.min(i, self.size - 1), 0)


def _places(grid: te.Tensor, borders: Sequence[_Border], *, nearest: bool) -> te.Tensor:
    """(N, *out, rank): places in elements, the axes in the order of x."""
    rank = len(borders)
    shape = shape_of(grid)

    def element(*i: Expr) -> Expr:
        value = widen(grid(*i[:-1], rank - 1 - i[-1]))
        result: Expr = value
        for axis in reversed(range(rank)):
            place = borders[axis].denormalised(value)
            place = borders[axis].inside(round_half_even(place) if nearest else place)
            result = place if axis == rank - 1 else tirx.Select(tirx.EQ(i[-1], axis), place, result)
        return result

    return te.compute(shape, element, name="place")


def _pixel(x: te.Tensor, n: Expr, c: Expr, at: Sequence[Expr], borders: Sequence[_Border]) -> Expr:
    """The element at integer places, as the padding continues x."""
    value = x(n, c, *(border.index(i) for border, i in zip(borders, at, strict=True)))
    if borders[0].padding != "zeros":
        return value
    tests = [t for border, i in zip(borders, at, strict=True) for t in (i >= 0, i < border.size)]
    return tirx.Select(tirx.all(*tests), value, tirx.const(0, dtype_of(value)))


def _interpolated(
    x: te.Tensor, places: te.Tensor, borders: Sequence[_Border], out: tuple[int, ...], reach: int
) -> te.Tensor:
    """The sum over `2 reach` elements on each axis, weighted by their distance."""
    rank, taps = len(borders), 2 * reach
    wide = wide_dtype(dtype_of(x)) if is_float(dtype_of(x)) else "float32"

    def term(n: Expr, c: Expr, o: Sequence[Expr], ks: Sequence[Expr | int]) -> Expr:
        value: Expr | None = None
        at = []
        for axis, k in enumerate(ks):
            place = places(n, *o, axis)
            left = tirx.floor(place)
            step = k + (1 - reach)
            at.append(left.astype("int32") + step)
            weight = _weight(tirx.abs(place - left - _number(step, dtype_of(place))), reach).astype(wide)
            value = weight if value is None else value * weight
        assert value is not None
        return _pixel(x, n, c, at, borders).astype(wide) * value

    if taps**rank <= UNROLLED_TAPS:

        def total(n: Expr, c: Expr, *o: Expr) -> Expr:
            terms = [term(n, c, o, ks) for ks in product(range(taps), repeat=rank)]
            value = terms[0]
            for other in terms[1:]:
                value = value + other
            return value.astype(dtype_of(x))

        return te.compute(out, total, name="grid_sample")
    ks = [te.reduce_axis((0, taps), f"k{axis}") for axis in range(rank)]
    sums = te.compute(out, lambda n, c, *o: te.sum(term(n, c, o, [k.var for k in ks]), axis=ks), name="taps")
    return te.compute(out, lambda *i: sums(*i).astype(dtype_of(x)), name="grid_sample")


def _number(step: Expr | int, dtype: str) -> Expr:
    return tirx.const(float(step), dtype) if isinstance(step, int) else step.astype(dtype)


def _weight(distance: Expr, reach: int) -> Expr:
    if reach == 1:
        return tirx.const(1.0, dtype_of(distance)) - distance
    return keys_kernel(distance, CUBIC_COEFFICIENT)


def affine_grid(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """theta (N, rank, rank + 1) and the size (N, C, *spatial) -> grid (N, *spatial, rank): theta (..., y, x, 1)."""
    theta = inputs[0]
    sizes = integers(node, 1)
    assert theta is not None and sizes is not None
    spatial = sizes[2:]
    rank, kind = len(spatial), wide_dtype(dtype_of(theta))
    aligned = bool(node.int("align_corners"))

    def place(index: Expr, size: int) -> Expr:
        steps = max(size - 1, 1) if aligned else size
        doubled = index * 2 if aligned else index * 2 + 1
        value = doubled.astype("float64") / float(steps) - 1.0
        return (value if size > 1 or not aligned else value + 1.0).astype(kind)

    def element(n: Expr, *i: Expr) -> Expr:
        row = i[-1]
        value = widen(theta(n, row, rank))
        for axis in range(rank):
            value = value + widen(theta(n, row, rank - 1 - axis)) * place(i[axis], spatial[axis])
        return value.astype(dtype_of(theta))

    return te.compute((sizes[0], *spatial, rank), element, name="affine_grid")


LOWERINGS: dict[str, Lowering] = {"AffineGrid": affine_grid, "GridSample": grid_sample}
