"""Resize: nearest, linear and cubic, one axis after the other.

An output element at o stands at position p of the input axis, by the coordinate transformation. Its value is

    sum over k of  w(s |k - p|) x[k] / sum over k of w(s |k - p|)

with x continued by its edges, w a triangle (linear) or the kernel of Keys, "Cubic convolution interpolation for
digital image processing" (1981), and s below 1 where an anti-aliasing filter widens it. Positions and weights are
computed in float64 once per axis, in small stages of their own: `position`, `left`, `weights`.

The length of a resized axis is scale times its size before it is rounded down, as ONNX's reference and node cases
have it; see `docs/design.md` for where ONNX Runtime differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Node
from graphopt.targets.lower.arithmetic import is_float, round_half_even
from graphopt.targets.lower.quantization import integer_range
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    constant,
    dtype_of,
    integers,
    normalise_axis,
    shape_of,
    wide_dtype,
)
from graphopt.targets.schedules.inline import STORED

UNROLLED_TAPS = 4
"""Up to so many taps an element is written as one sum, which fuses; more become a reduction."""


@dataclass(frozen=True)
class Axis:
    """One resized axis: `size` elements become `out`, `scale` times as many; `start` and `end` bound the region. What
    comes of it is stored for the axes that follow, or computed again for each of their elements."""

    axis: int
    size: int
    out: int
    scale: float
    start: float
    end: float
    is_stored: bool = False

    @property
    def is_kept(self) -> bool:
        same = math.isclose(self.scale, 1.0) and self.size == self.out
        return same and math.isclose(self.start, 0.0) and math.isclose(self.end, 1.0)


def resize(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x of any rank and of a type with arithmetic; see ONNX for the attributes."""
    x = inputs[0]
    assert x is not None
    step = _nearest if node.str("mode", "nearest") == "nearest" else _weighted
    shape = shape_of(x)
    resized = [axis for axis in _axes(node, shape) if not axis.is_kept]
    y = x
    for axis in _in_order(resized, len(shape)):
        y = _extrapolated(node, axis, step(node, axis, y))
    return _rounded(y, node.output.dtype)


def _in_order(axes: list[Axis], rank: int) -> list[Axis]:
    """Along the innermost axis elements are gathered one by one, along the others whole rows are added. So where rows
    become more the former comes first, for each row of the input, and its results are stored."""
    if len(axes) < 2:
        return axes
    *others, last = sorted(axes, key=lambda axis: axis.axis)
    grown = math.prod(axis.out for axis in others) > math.prod(axis.size for axis in others)
    return [replace(last, is_stored=True), *others] if grown and last.axis == rank - 1 else axes


def _axes(node: Node, shape: tuple[int, ...]) -> list[Axis]:
    rank = len(shape)
    axes = [normalise_axis(a, rank) for a in node.ints("axes") or range(rank)]
    roi, scales, sizes = constant(node, 1), constant(node, 2), integers(node, 3)
    if sizes:
        factors = [size / shape[a] for size, a in zip(sizes, axes, strict=True)]
        policy = node.str("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factors = [min(factors) if policy == "not_larger" else max(factors)] * len(axes)
    else:
        assert scales is not None
        factors = [float(s) for s in scales.reshape(-1)]
    crops = node.str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    region = [0.0] * len(axes) + [1.0] * len(axes)
    if crops and roi is not None and roi.size:
        region = [float(v) for v in roi.reshape(-1)]
    out = node.output.static_shape
    return [
        Axis(a, shape[a], out[a], factors[n], region[n], region[len(axes) + n]) for n, a in enumerate(axes)
    ]


def _position(node: Node, axis: Axis, o: Any) -> Any:
    """Where element `o` of the output, a float64 array or expression, stands on the input's axis."""
    mode = node.str("coordinate_transformation_mode", "half_pixel")
    length = axis.scale * axis.size
    if mode == "align_corners":
        return o * 0.0 if length == 1 else o * float(axis.size - 1) / (length - 1)
    if mode == "asymmetric":
        return o / axis.scale
    if mode == "half_pixel":
        return (o + 0.5) / axis.scale - 0.5
    if mode == "pytorch_half_pixel":
        return o * 0.0 - 0.5 if length == 1 else (o + 0.5) / axis.scale - 0.5
    if mode == "half_pixel_symmetric":
        return axis.size / 2 * (1 - axis.out / length) + (o + 0.5) / axis.scale - 0.5
    if mode == "tf_crop_and_resize":
        width = (axis.end - axis.start) * (axis.size - 1)
        inside = o * 0.0 + width / 2 if length == 1 else o * width / (length - 1)
        return inside + axis.start * (axis.size - 1)
    raise UnsupportedError(f"the coordinate transformation '{mode}'", where=where(node))


def _positions(node: Node, axis: Axis) -> te.Tensor:
    return te.compute(
        (axis.out,), lambda o: _position(node, axis, o.astype("float64")), name=f"position{axis.axis}"
    )


NEAREST: dict[str, Callable[[ModuleType, Any], Any]] = {
    "round_prefer_floor": lambda m, p: m.ceil(p - 0.5),
    "round_prefer_ceil": lambda m, p: m.floor(p + 0.5),
    "floor": lambda m, p: m.floor(p),
    "ceil": lambda m, p: m.ceil(p),
}
"""The element nearest to a position, with the functions of numpy or TensorIR."""


def _nearest(node: Node, axis: Axis, x: te.Tensor) -> te.Tensor:
    nearest = NEAREST[node.str("nearest_mode", "round_prefer_floor")]
    indices = nearest(np, _position(node, axis, np.arange(axis.out, dtype=np.float64)))
    common = math.gcd(axis.size, axis.out)
    if np.array_equal(indices.clip(0, axis.size - 1), np.arange(axis.out) * axis.size // axis.out):
        return _along(axis, x, lambda o: tirx.indexdiv(o * (axis.size // common), axis.out // common))
    positions = _positions(node, axis)
    chosen = te.compute(
        (axis.out,),
        lambda o: _inside(axis, nearest(tirx, positions(o)).astype("int32")),
        name=f"left{axis.axis}",
    )
    return _along(axis, x, lambda o: chosen(o))


def _along(axis: Axis, x: te.Tensor, index: Callable[[Expr], Expr]) -> te.Tensor:
    """x read at `index` of the output's place on the axis."""
    return _stage(axis, x, lambda *i: x(*i[: axis.axis], index(i[axis.axis]), *i[axis.axis + 1 :]))


def _stage(axis: Axis, x: te.Tensor, element: Callable[..., Expr]) -> te.Tensor:
    """x with `element` along the axis."""
    shape = shape_of(x)
    made = (*shape[: axis.axis], axis.out, *shape[axis.axis + 1 :])
    return te.compute(made, element, name="resize", attrs={STORED: 1} if axis.is_stored else None)


def _inside(axis: Axis, index: Expr) -> Expr:
    return tirx.max(tirx.min(index, axis.size - 1), 0)


def _weighted(node: Node, axis: Axis, x: te.Tensor) -> te.Tensor:
    """The weighted sum of the taps around a position: half of them left of it, or on it."""
    support = 1 if node.str("mode") == "linear" else 2
    widens = bool(node.int("antialias")) and axis.scale < 1
    reach = math.ceil(support / axis.scale) if widens else support
    positions = _positions(node, axis)
    left = te.compute(
        (axis.out,), lambda o: tirx.ceil(positions(o)).astype("int32") - reach, name=f"left{axis.axis}"
    )
    wide = _work_dtype(dtype_of(x))
    weights = _weights(node, axis, positions, left, 2 * reach, wide)

    def term(i: tuple[Expr, ...], k: Expr | int) -> Expr:
        o = i[axis.axis]
        element = x(*i[: axis.axis], _inside(axis, left(o) + k), *i[axis.axis + 1 :])
        return element.astype(wide) * weights(o, k)

    if 2 * reach <= UNROLLED_TAPS:

        def total(*i: Expr) -> Expr:
            value = term(i, 0)
            for k in range(1, 2 * reach):
                value = value + term(i, k)
            return value

        return _stage(axis, x, total)
    k = te.reduce_axis((0, 2 * reach), "rk")
    return _stage(axis, x, lambda *i: te.sum(term(i, k), axis=k))


def _weights(
    node: Node, axis: Axis, positions: te.Tensor, left: te.Tensor, taps: int, dtype: str
) -> te.Tensor:
    """(out, taps), computed in float64."""
    antialias = bool(node.int("antialias"))
    excludes = bool(node.int("exclude_outside"))
    coefficient = node.float("cubic_coeff_a", -0.75)
    narrowing = tirx.const(min(axis.scale, 1.0) if antialias else 1.0, "float64")
    zero, one = tirx.const(0.0, "float64"), tirx.const(1.0, "float64")

    def weight(o: Expr, k: Expr) -> Expr:
        tap = left(o) + k
        distance = tirx.abs(tap.astype("float64") - positions(o)) * narrowing
        value = _triangle(distance) if node.str("mode") == "linear" else keys_kernel(distance, coefficient)
        return tirx.Select(tirx.all(tap >= 0, tap < axis.size), value, zero) if excludes else value

    shape, name = (axis.out, taps), f"weights{axis.axis}"
    if not (antialias or excludes):
        return te.compute(shape, lambda o, k: weight(o, k).astype(dtype), name=name)
    unscaled = te.compute(shape, weight, name=f"unscaled{axis.axis}")
    k = te.reduce_axis((0, taps), "k")
    totals = te.compute((axis.out,), lambda o: te.sum(unscaled(o, k), axis=k), name=f"totals{axis.axis}")

    def share(o: Expr, k: Expr) -> Expr:
        total = totals(o)
        return (unscaled(o, k) / tirx.Select(tirx.EQ(total, zero), one, total)).astype(dtype)

    return te.compute(shape, share, name=name)


def _triangle(distance: Expr) -> Expr:
    return tirx.max(tirx.const(1.0, "float64") - distance, tirx.const(0.0, "float64"))


def keys_kernel(x: Expr, a: float) -> Expr:
    """The weight of an element at distance x: cubic pieces that meet at 1, zero from 2 on."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1.0
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    zero = tirx.const(0.0, dtype_of(x))
    return tirx.Select(x <= 1.0, near, tirx.Select(x < 2.0, far, zero))


def _extrapolated(node: Node, axis: Axis, y: te.Tensor) -> te.Tensor:
    """With tf_crop_and_resize, what lies beyond the input has the extrapolation value."""
    if node.str("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        return y
    positions = _positions(node, axis)
    value = tirx.const(node.float("extrapolation_value", 0.0), dtype_of(y))

    def element(*i: Expr) -> Expr:
        p = positions(i[axis.axis])
        inside = tirx.all(p >= 0.0, p <= float(axis.size - 1))
        return tirx.Select(inside, y(*i), value)

    return te.compute(y.shape, element, name="extrapolate")


def _work_dtype(dtype: str) -> str:
    return wide_dtype(dtype) if is_float(dtype) else "float64"


def _rounded(y: te.Tensor, dtype: DType) -> te.Tensor:
    """As the output's type; integers are rounded and cut to their range."""
    if dtype_of(y) == dtype.label:
        return y
    if dtype.is_float:
        return te.compute(y.shape, lambda *i: y(*i).astype(dtype.label), name="cast")
    low, high = (tirx.const(float(v), "float64") for v in integer_range(dtype))

    def element(*i: Expr) -> Expr:
        return tirx.max(tirx.min(round_half_even(y(*i)), high), low).astype(dtype.label)

    return te.compute(y.shape, element, name="round")


LOWERINGS: dict[str, Lowering] = {"Resize": resize}
