"""Normalisations: a stage per reduction, then one element-wise stage.

Statistics are kept in float32 or wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.reduction import arg_reduce, reduce_over
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    dtype_of,
    normalise_axis,
    shape_of,
    wide_dtype,
    widen,
)


def _at(indices: Sequence[Expr], axes: Sequence[int]) -> list[Expr]:
    """The place of a statistic that was reduced over `axes` and keeps them with extent 1."""
    return [0 if a in axes else i for a, i in enumerate(indices)]


def _source(inputs: list[te.Tensor | None]) -> te.Tensor:
    assert inputs[0] is not None
    return inputs[0]


def exponentials(x: te.Tensor, axis: int, *, masked: bool = False) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """max(x), exp(x - max) and its sum along `axis`, which is kept with extent 1.

    With `masked`, x may be minus infinity all along the axis: the exponentials are zeros then, and their sum 1.
    """
    shape, axes, dtype = shape_of(x), (axis,), wide_dtype(dtype_of(x))
    common = partial(reduce_over, shape, axes, keepdims=True, dtype=dtype)
    peak = common(lambda *i: widen(x(*i)), te.max, name="peak")
    if masked:
        peak = _bounded_below(peak)
    powers = te.compute(shape, lambda *i: tirx.exp(widen(x(*i)) - peak(*_at(i, axes))), name="powers")
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
        shape_of(x), lambda *i: (powers(*i) / total(*_at(i, (axis,)))).astype(dtype_of(x)), name="softmax"
    )


def _softmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = _source(inputs)
    return softmax(x, normalise_axis(node.int("axis", -1), len(x.shape)))


def log_softmax(x: te.Tensor, axis: int) -> te.Tensor:
    """x - max - log(sum(exp(x - max))) along `axis`."""
    peak, _, total = exponentials(x, axis)
    offset = te.compute(peak.shape, lambda *i: peak(*i) + tirx.log(total(*i)), name="offset")
    return te.compute(
        shape_of(x),
        lambda *i: (widen(x(*i)) - offset(*_at(i, (axis,)))).astype(dtype_of(x)),
        name="logsoftmax",
    )


def _log_softmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = _source(inputs)
    return log_softmax(x, normalise_axis(node.int("axis", -1), len(x.shape)))


def _hardmax(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """1 at the first largest element along the axis, 0 elsewhere."""
    x = _source(inputs)
    axis = normalise_axis(node.int("axis", -1), len(x.shape))
    best = arg_reduce(x, axis, find_max=True)
    one, zero = tirx.const(1, dtype_of(x)), tirx.const(0, dtype_of(x))
    return te.compute(
        x.shape,
        lambda *i: tirx.Select(tirx.EQ(best(*_at(i, (axis,))), i[axis].astype("int64")), one, zero),
        name="hardmax",
    )


def moments(x: te.Tensor, axes: Sequence[int]) -> tuple[te.Tensor, te.Tensor]:
    """Mean and variance over `axes`, which keep extent 1; the variance from centred elements."""
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    scale = tirx.const(1 / max(1, math.prod(shape[a] for a in axes)), dtype)
    common = partial(reduce_over, shape, axes, keepdims=True, dtype=dtype)
    total = common(lambda *i: widen(x(*i)), te.sum, name="total")
    mean = te.compute(total.shape, lambda *i: total(*i) * scale, name="mean")

    def square(*i: Expr) -> Expr:
        centred = widen(x(*i)) - mean(*_at(i, axes))
        return centred * centred

    squares = common(square, te.sum, name="squares")
    return mean, te.compute(squares.shape, lambda *i: squares(*i) * scale, name="variance")


def inverse_deviation(variance: te.Tensor, epsilon: float) -> te.Tensor:
    one, small = tirx.const(1, dtype_of(variance)), tirx.const(epsilon, dtype_of(variance))
    return te.compute(
        variance.shape, lambda *i: one / tirx.sqrt(variance(*i) + small), name="inverse_deviation"
    )


def _layer_normalization(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, over the axes from `axis` on.

    Mean and inverse deviation are outputs too.
    """
    x, scale = _source(inputs), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    rank = len(x.shape)
    axes = range(normalise_axis(node.int("axis", -1), rank), rank)
    mean, variance = moments(x, axes)
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))

    def element(*i: Expr) -> Expr:
        value = (widen(x(*i)) - mean(*_at(i, axes))) * inverse(*_at(i, axes))
        return _affine(value, i, scale, bias).astype(dtype_of(x))

    statistics = [
        _converted(tensor, value.dtype.label)
        for tensor, value in zip((mean, inverse), node.outputs[1:], strict=False)
    ]
    return [te.compute(x.shape, element, name="layernorm"), *statistics]


def _converted(tensor: te.Tensor, dtype: str) -> te.Tensor:
    return te.compute(tensor.shape, lambda *i: tensor(*i).astype(dtype), name="statistic")


def _rms_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the axes from `axis` on."""
    x, scale = _source(inputs), inputs[1]
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
        return _affine(widen(x(*i)) * inverse(*_at(i, axes)), i, scale, None).astype(result)

    return te.compute(x.shape, element, name="rmsnorm")


def _affine(value: Expr, indices: Sequence[Expr], scale: te.Tensor | None, bias: te.Tensor | None) -> Expr:
    if scale is not None:
        value = value * widen(broadcast_read(scale, indices))
    return value if bias is None else value + widen(broadcast_read(bias, indices))


def _instance_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Each channel of each sample by its own mean and variance, then scale and bias per channel."""
    x, scale, bias = inputs
    assert x is not None and scale is not None and bias is not None
    axes = range(2, len(x.shape))
    mean, variance = moments(x, axes)
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))

    def element(*i: Expr) -> Expr:
        value = (widen(x(*i)) - mean(*_at(i, axes))) * inverse(*_at(i, axes))
        return (value * widen(scale(i[1])) + widen(bias(i[1]))).astype(dtype_of(x))

    return te.compute(x.shape, element, name="instancenorm")


def _group_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """As instance normalisation, with the statistics of `num_groups` groups of channels."""
    x, scale, bias = inputs
    assert x is not None and scale is not None and bias is not None
    batch, channels, *spatial = shape_of(x)
    groups = node.int("num_groups")
    size = channels // groups
    grouped = te.compute(
        (batch, groups, size, *spatial), lambda n, g, c, *s: x(n, g * size + c, *s), name="grouped"
    )
    axes = range(2, len(grouped.shape))
    mean, variance = moments(grouped, axes)
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))
    rest = [0] * (len(axes))

    def element(*i: Expr) -> Expr:
        at = (i[0], tirx.indexdiv(i[1], size), *rest)
        value = (widen(x(*i)) - mean(*at)) * inverse(*at)
        return (value * widen(scale(i[1])) + widen(bias(i[1]))).astype(dtype_of(x))

    return te.compute(x.shape, element, name="groupnorm")


def _batch_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor | list[te.Tensor]:
    """By given statistics; in training mode by the batch's own, and the running ones are updated."""
    x, scale, bias, mean, variance = inputs
    assert x is not None and scale is not None and bias is not None
    assert mean is not None and variance is not None
    channel: Callable[[Sequence[Expr]], Expr] = lambda i: i[1] if len(x.shape) > 1 else 0  # noqa: E731
    small = node.float("epsilon", 1e-5)
    if not node.int("training_mode"):
        inverse = inverse_deviation(_widened(variance), small)
        return _normalised_by_channel(x, scale, bias, _widened(mean), inverse, channel)
    axes = [a for a in range(len(x.shape)) if a != 1]
    own_mean, own_variance = (_per_channel(t) for t in moments(x, axes))
    y = _normalised_by_channel(x, scale, bias, own_mean, inverse_deviation(own_variance, small), channel)
    momentum = node.float("momentum", 0.9)
    return [y, _running(mean, own_mean, momentum), _running(variance, own_variance, momentum)]


def _normalised_by_channel(
    x: te.Tensor,
    scale: te.Tensor,
    bias: te.Tensor,
    mean: te.Tensor,
    inverse: te.Tensor,
    channel: Callable[[Sequence[Expr]], Expr],
) -> te.Tensor:
    def element(*i: Expr) -> Expr:
        c = channel(i)
        centred = widen(x(*i)).astype(dtype_of(mean)) - mean(c)
        value = centred * (inverse(c) * widen(scale(c)).astype(dtype_of(mean)))
        return (value + widen(bias(c)).astype(dtype_of(mean))).astype(dtype_of(x))

    return te.compute(x.shape, element, name="batchnorm")


def _widened(tensor: te.Tensor) -> te.Tensor:
    wide = wide_dtype(dtype_of(tensor))
    return tensor if wide == dtype_of(tensor) else _converted(tensor, wide)


def _per_channel(tensor: te.Tensor) -> te.Tensor:
    shape = shape_of(tensor)
    zeros = [0] * (len(shape) - 2)
    return te.compute((shape[1],), lambda c: tensor(0, c, *zeros), name="per_channel")


def _running(old: te.Tensor, new: te.Tensor, momentum: float) -> te.Tensor:
    keep, take = tirx.const(momentum, dtype_of(new)), tirx.const(1 - momentum, dtype_of(new))
    return te.compute(
        old.shape,
        lambda c: (widen(old(c)).astype(dtype_of(new)) * keep + new(c) * take).astype(dtype_of(old)),
        name="running",
    )


def _lrn(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / (bias + alpha / size * sum of squares of `size` neighbouring channels)^beta."""
    x = _source(inputs)
    size = node.int("size")
    before, after = (size - 1) // 2, size // 2
    channels, dtype = shape_of(x)[1], wide_dtype(dtype_of(x))
    k = te.reduce_axis((0, size), "k")

    def square(*i: Expr) -> Expr:
        c = i[1] + k - before
        value = widen(x(i[0], c, *i[2:]))
        inside = tirx.all(c >= 0, c < channels)
        return te.sum(tirx.if_then_else(inside, value * value, tirx.const(0, dtype)), axis=k)

    assert before + after == size - 1
    squares = te.compute(x.shape, square, name="squares")
    alpha, bias = (
        tirx.const(node.float("alpha", 1e-4) / size, dtype),
        tirx.const(node.float("bias", 1), dtype),
    )
    beta = tirx.const(node.float("beta", 0.75), dtype)
    return te.compute(
        x.shape,
        lambda *i: (widen(x(*i)) / tirx.power(bias + alpha * squares(*i), beta)).astype(dtype_of(x)),
        name="lrn",
    )


def _mean_variance_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(x - mean) / (deviation + 1e-9) over `axes`."""
    x = _source(inputs)
    axes = [normalise_axis(a, len(x.shape)) for a in node.ints("axes", (0, 2, 3)) or ()]
    mean, variance = moments(x, axes)
    small = tirx.const(1e-9, dtype_of(mean))

    def element(*i: Expr) -> Expr:
        at = _at(i, axes)
        return ((widen(x(*i)) - mean(*at)) / (tirx.sqrt(variance(*at)) + small)).astype(dtype_of(x))

    return te.compute(x.shape, element, name="mvn")


def _lp_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x / norm(x) along `axis`; where the norm is zero the result is."""
    x = _source(inputs)
    shape, dtype = shape_of(x), wide_dtype(dtype_of(x))
    axes = (normalise_axis(node.int("axis", -1), len(shape)),)
    absolute = node.int("p", 2) == 1

    def term(*i: Expr) -> Expr:
        value = widen(x(*i))
        return tirx.abs(value) if absolute else value * value

    total = reduce_over(shape, axes, term, te.sum, keepdims=True, dtype=dtype, name="total")
    zero = tirx.const(0, dtype)

    def element(*i: Expr) -> Expr:
        sum_ = total(*_at(i, axes))
        norm = sum_ if absolute else tirx.sqrt(sum_)
        return tirx.Select(tirx.EQ(sum_, zero), zero, widen(x(*i)) / norm).astype(dtype_of(x))

    return te.compute(x.shape, element, name="lpnorm")


LOWERINGS: dict[str, Lowering] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "Hardmax": _hardmax,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
    "Softmax": _softmax,
}
