"""Normalisations with a scale and a bias for each channel: batch, instance, group.

Statistics are kept in float32 or wider.
"""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.normalization import converted, inverse_deviation, moments
from graphopt.targets.lower.reduction import kept
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, shape_of, wide_dtype, widen


def _instance_normalization(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Each channel of each sample by its own mean and variance, then scale and bias per channel."""
    x, scale, bias = inputs
    assert x is not None and scale is not None and bias is not None
    axes = range(2, len(x.shape))
    mean, variance = moments(x, axes)
    inverse = inverse_deviation(variance, node.float("epsilon", 1e-5))

    def element(*i: Expr) -> Expr:
        value = (widen(x(*i)) - mean(*kept(i, axes))) * inverse(*kept(i, axes))
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
    rest = [0] * len(axes)

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
    small = node.float("epsilon", 1e-5)
    if not node.int("training_mode"):
        inverse = inverse_deviation(_widened(variance), small)
        return _normalised_by_channel(x, scale, bias, _widened(mean), inverse)
    axes = [a for a in range(len(x.shape)) if a != 1]
    own_mean, own_variance = (_per_channel(t) for t in moments(x, axes))
    y = _normalised_by_channel(x, scale, bias, own_mean, inverse_deviation(own_variance, small))
    momentum = node.float("momentum", 0.9)
    return [y, _running(mean, own_mean, momentum), _running(variance, own_variance, momentum)]


def _normalised_by_channel(
    x: te.Tensor, scale: te.Tensor, bias: te.Tensor, mean: te.Tensor, inverse: te.Tensor
) -> te.Tensor:
    def element(*i: Expr) -> Expr:
        c = i[1] if len(i) > 1 else 0
        centred = widen(x(*i)).astype(dtype_of(mean)) - mean(c)
        value = centred * (inverse(c) * widen(scale(c)).astype(dtype_of(mean)))
        return (value + widen(bias(c)).astype(dtype_of(mean))).astype(dtype_of(x))

    return te.compute(x.shape, element, name="batchnorm")


def _widened(tensor: te.Tensor) -> te.Tensor:
    wide = wide_dtype(dtype_of(tensor))
    return tensor if wide == dtype_of(tensor) else converted(tensor, wide)


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


LOWERINGS: dict[str, Lowering] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
}
