"""Weights in fewer bits, and what makes floats of them again.

int8 .. int2         DequantizeLinear(W', s, 0)
codebook             Gather(table, Cast(codes)): 16 numbers found by k-means (Lloyd, 1982), codes of 4 bits
float16, bfloat16    Cast(W')
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import DType, Node, Value
from graphopt.passes.integers import weight_axis
from graphopt.passes.quantization.operators import RECURRENT
from graphopt.passes.quantization.parameters import Parameters, check_finite, for_weights
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.rewrite import Builder

CODES = 16
ROUNDS = 50
"""Of k-means; it settles before."""


def weight_parameters(node: Node, weights: Value, scheme: Scheme) -> Parameters:
    """Scales of the integer weights of `node`. Raises UsageError."""
    assert weights.constant is not None
    axis, group = scale_axis(node, weights, scheme)
    dtype, where = STORED[scheme.weights], f"weights '{weights.name}'"
    return for_weights(weights.constant, dtype, scheme.weight_bits, axis, group=group, where=where)


def scale_axis(node: Node, weights: Value, scheme: Scheme) -> tuple[int | None, int]:
    """The axis that the scales of weights go along, and how many places share one there.

    A transposed convolution in groups has its output channels on two axes, and one scale. Groups go along the
    inputs of a channel, where there are that many.
    """
    rank = weights.rank or 0
    if not scheme.per_channel or rank < 2 or (node.op_type == "ConvTranspose" and node.int("group", 1) > 1):
        return None, 0
    if node.is_op(*RECURRENT):
        channels, inputs = 1, 2
    else:
        channels = weight_axis(node) % rank
        inputs = rank - 2 if node.op_type == "MatMul" else 1 - channels
    if scheme.group and weights.static_shape[inputs] > scheme.group:
        return inputs, scheme.group
    return channels, 0


def as_constants(build: Builder, parameters: Parameters, name: str) -> tuple[Value, Value]:
    """Scale and zero point."""
    scale = build.const(parameters.scale, name=f"{name}.scale")
    return scale, build.const(parameters.zero_point, name=f"{name}.zero_point")


def dequantised_constant(
    build: Builder, data: np.ndarray, parameters: Parameters, name: str, *, keep: Builder | None = None
) -> Value:
    """What the integers of `data` stand for. `keep` has the constants in its graph, where a body is repeated."""
    owner = keep or build
    integers = owner.const(parameters.quantised(data), name=f"{name}.integers")
    operands = (integers, *as_constants(owner, parameters, name))
    return build.op("DequantizeLinear", *operands, name=f"{name}.dequantize", **parameters.attributes)


def narrowed(build: Builder, weights: Value, scheme: Scheme) -> Value:
    """Weights that are not integers: from a codebook, or narrower floats. Raises UsageError."""
    assert weights.constant is not None
    where = f"weights '{weights.name}'"
    check_finite(weights.constant, where)
    if scheme.weights == "codebook":
        table, codes = codebook(weights.constant)
        indices = build.const(codes.astype(ml_dtypes.uint4), name=f"{weights.name}.codes")
        wide = build.op("Cast", indices, to=DType.int32.onnx_code)
        return build.op("Gather", build.const(table, name=f"{weights.name}.table"), wide)
    dtype = DType[scheme.weights]
    with np.errstate(over="ignore"):  # told below, by name
        data = weights.constant.astype(dtype.numpy)
    if not np.isfinite(data.astype(np.float32)).all():
        hint = "choose bfloat16, which reaches as far as float32"
        raise UsageError(f"a number is too large for {scheme.weights}", where=where, hint=hint)
    return build.op("Cast", build.const(data, name=weights.name), to=DType.float32.onnx_code)


def in_fewer_bits(build: Builder, node: Node, weights: Value, scheme: Scheme) -> Value:
    """The weights of `node` by `scheme`, as floats again. Raises UsageError."""
    assert weights.constant is not None
    if scheme.weights not in STORED:
        return narrowed(build, weights, scheme)
    parameters = weight_parameters(node, weights, scheme)
    return dequantised_constant(build, weights.constant, parameters, weights.name)


def codebook(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """16 numbers, and the nearest of them for each weight: k-means from evenly filled intervals."""
    flat = weights.astype(np.float64).reshape(-1)
    table = np.quantile(flat, (np.arange(CODES) + 0.5) / CODES)
    codes = np.zeros(flat.size, np.int64)
    for _ in range(ROUNDS):
        codes = np.searchsorted((table[1:] + table[:-1]) / 2, flat)
        counts, sums = np.bincount(codes, minlength=CODES), np.bincount(codes, flat, CODES)
        moved = np.where(counts > 0, sums / np.maximum(counts, 1), table)
        if np.array_equal(moved, table):
            break
        table = moved
    return table.astype(np.float32), codes.reshape(weights.shape)
