"""Layer, RMS, Lp, mean-variance and local response normalisation: a stage per reduction, then an element-wise one.

Statistics are kept in float32 or wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.reduction import kept, reduce_over
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    dtype_of,
    normalise_axis,
    required,
    shape_of,
    wide_dtype,
    widen,
)


def moments(x: te.Tensor, axes: Sequence[int]) -> tuple[te.Tensor, te.Tensor]:
    """Mean and variance over `axes`, which keep extent 1; the variance from centred elements."""
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    scale = tirx.const(1 / max(1, math.prod(shape[a] for a in axes)), dtype)
    common = partial(reduce_over, shape, axes, keepdims=True, dtype=dtype)
    total = common(lambda *i: widen(x(*i)), te.sum, name="total")
    mean = te.compute(total.shape, lambda *i: total(*i) * scale, name="mean")

    def square(*i: Expr) -> Expr:
        centred = widen(x(*i)) - mean(*kept(i, axes))
        return centred * centred

    squares = common(square, te.sum, name="squares")
    return mean, te.compute(squares.shape, lambda *i: squares(*i) * scale, name="variance")


def inverse_deviation(variance: te.Tensor, epsilon: float) -> te.Tensor:
    one, small = tirx.const(1, dtype_of(variance)), tirx.const(epsilon, dtype_of(variance))
    return te.compute(
        variance.shape, lambda *i: one / tirx.sqrt(variance(*i) + small), name="inverse_deviation"
    )


def converted(statistic: te.Tensor, dtype: str) -> te.Tensor:
    return te.compute(statistic.shape, lambda *i: statistic(*i).astype(dtype), name="statistic")


def _layer_normalization(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, over the axes from `axis` on.

    Mean and inverse deviation are outputs too.
    """
    x, scale = required(inputs, 0), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    rank = len(x.shape)
    axes = range(normalise_axis(node.int("axis", -1), rank), rank)
    mean, variance = moments(x, axes)
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))

    def element(*i: Expr) -> Expr:
        value = (widen(x(*i)) - mean(*kept(i, axes))) * inverse(*kept(i, axes))
        return _affine(value, i, scale, bias).astype(dtype_of(x))

    statistics = [
        converted(tensor, value.dtype.label)
        for tensor, value in zip((mean, inverse), node.outputs[1:], strict=False)
    ]
    return [te.compute(x.shape, element, name="layernorm"), *statistics]


def _rms_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the axes from `axis` on."""
    x, scale = required(inputs, 0), inputs[1]
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    axes = range(normalise_axis(node.int("axis", -1), len(shape)), len(shape))
    squares = reduce_over(
        shape,
        axes,
        lambda *i: widen(x(*i)) * widen(x(*i)),
        te.sum,
        keepdims=True,
        dtype=dtype,
        name="squares",
    )
    count = tirx.const(1 / math.prod(shape[a] for a in axes), dtype)
    variance = te.compute(squares.shape, lambda *i: squares(*i) * count, name="mean_square")
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))
    result = node.output.dtype.label

    def element(*i: Expr) -> Expr:
        return _affine(widen(x(*i)) * inverse(*kept(i, axes)), i, scale, None).astype(result)

    return te.compute(x.shape, element, name="rmsnorm")


def _affine(value: Expr, indices: Sequence[Expr], scale: te.Tensor | None, bias: te.Tensor | None) -> Expr:
    if scale is not None:
        value = value * widen(broadcast_read(scale, indices))
    return value if bias is None else value + widen(broadcast_read(bias, indices))


def _lrn(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / (bias + alpha / size * sum of squares of `size` neighbouring channels)^beta."""
    x = required(inputs, 0)
    size = node.int("size")
    channels, dtype = shape_of(x)[1], wide_dtype(dtype_of(x))
    k = te.reduce_axis((0, size), "k")

    def square(*i: Expr) -> Expr:
        c = i[1] + k - (size - 1) // 2
        value = widen(x(i[0], c, *i[2:]))
        inside = tirx.all(c >= 0, c < channels)
        return te.sum(tirx.if_then_else(inside, value * value, tirx.const(0, dtype)), axis=k)

    squares = te.compute(x.shape, square, name="squares")
    alpha = tirx.const(node.float("alpha", 1e-4) / size, dtype)
    beta, bias = tirx.const(node.float("beta", 0.75), dtype), tirx.const(node.float("bias", 1), dtype)
    return te.compute(
        x.shape,
        lambda *i: (widen(x(*i)) / tirx.power(bias + alpha * squares(*i), beta)).astype(dtype_of(x)),
        name="lrn",
    )


def _mean_variance_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(x - mean) / (deviation + 1e-9) over `axes`."""
    x = required(inputs, 0)
    axes = [normalise_axis(a, len(x.shape)) for a in node.ints("axes", (0, 2, 3)) or ()]
    mean, variance = moments(x, axes)
    small = tirx.const(1e-9, dtype_of(mean))

    def element(*i: Expr) -> Expr:
        at = kept(i, axes)
        return ((widen(x(*i)) - mean(*at)) / (tirx.sqrt(variance(*at)) + small)).astype(dtype_of(x))

    return te.compute(x.shape, element, name="mvn")


def _lp_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / norm(x) along `axis`; where the norm is zero the result is."""
    x = required(inputs, 0)
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    axes = (normalise_axis(node.int("axis", -1), len(shape)),)
    absolute = node.int("p", 2) == 1

    def term(*i: Expr) -> Expr:
        value = widen(x(*i))
        return tirx.abs(value) if absolute else value * value

    total = reduce_over(shape, axes, term, te.sum, keepdims=True, dtype=dtype, name="total")
    zero = tirx.const(0, dtype)

    def element(*i: Expr) -> Expr:
        sum_ = total(*kept(i, axes))
        norm = sum_ if absolute else tirx.sqrt(sum_)
        return tirx.Select(tirx.EQ(sum_, zero), zero, widen(x(*i)) / norm).astype(dtype_of(x))

    return te.compute(x.shape, element, name="lpnorm")


LOWERINGS: dict[str, Lowering] = {
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
}
