"""Pad, OneHot, GatherElements, LRN and GroupNormalization in numpy.

onnx.reference refuses negative pads, a depth of rank one, and axes of more than 64 elements to gather from; it
errs in LRN and for negative axes to gather from, and has no GroupNormalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir import Node

Operands = Sequence[np.ndarray | None]

NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def pad(node: Node, operands: Operands) -> np.ndarray:
    """ONNX Pad: negative pads take elements away, before the others add some."""
    x, pads, value, axes = (*operands, None, None)[:4]
    assert x is not None and pads is not None
    places = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes]
    before, after = pads.reshape(2, -1).tolist()
    widths = [(0, 0)] * x.ndim
    kept = [slice(None)] * x.ndim
    for axis, low, high in zip(places, before, after, strict=True):
        widths[axis] = (max(low, 0), max(high, 0))
        kept[axis] = slice(max(-low, 0), max(x.shape[axis] - max(-high, 0), 0))
    mode = NUMPY_MODES[node.str("mode", "constant")]
    if mode != "constant":
        return np.pad(x[tuple(kept)], widths, mode)  # type: ignore[call-overload]
    fill = np.zeros((), x.dtype) if value is None else value.reshape(())
    return np.pad(x[tuple(kept)], widths, mode, constant_values=fill)  # type: ignore[call-overload]


def one_hot(node: Node, operands: Operands) -> np.ndarray:
    """ONNX OneHot: indices outside [-depth, depth) give a row of the off value."""
    indices, depth_operand, values = operands
    assert indices is not None and depth_operand is not None and values is not None
    depth = int(depth_operand.reshape(()))
    axis = node.int("axis", -1)
    wrapped = np.where(indices < 0, indices + depth, indices)
    hot = np.expand_dims(wrapped, axis) == np.arange(depth).reshape(
        [-1 if a == axis % (indices.ndim + 1) else 1 for a in range(indices.ndim + 1)]
    )
    return np.where(hot, values[1], values[0])


def gather_elements(node: Node, operands: Operands) -> np.ndarray:
    """ONNX GatherElements; `indices` may be shorter than `x` on the other axes."""
    x, indices = operands
    assert x is not None and indices is not None
    axis = node.int("axis") % x.ndim
    reached = tuple(slice(None) if a == axis else slice(dim) for a, dim in enumerate(indices.shape))
    return np.take_along_axis(x[reached], indices, axis)


def lrn(node: Node, operands: Operands) -> np.ndarray:
    """ONNX LRN: x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta."""
    (x,) = operands
    assert x is not None
    size = node.int("size")
    below, above = (size - 1) // 2, size // 2
    squares = np.pad(x * x, [(0, 0), (below, above), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, k : k + x.shape[1]] for k in range(size))
    base = node.float("bias", 1.0) + node.float("alpha", 1e-4) / size * total
    return (x / base ** node.float("beta", 0.75)).astype(x.dtype)


def group_normalization(node: Node, operands: Operands) -> np.ndarray:
    """ONNX GroupNormalization (opset 21): each group of channels to mean 0 and variance 1, then scale and bias."""
    x, scale, bias = operands
    assert x is not None and scale is not None and bias is not None
    stash = np.promote_types(x.dtype, np.float32) if node.int("stash_type", 1) == 1 else x.dtype
    groups = x.astype(stash).reshape(x.shape[0], node.int("num_groups"), -1)
    centred = groups - groups.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    normal = (centred / np.sqrt(variance + node.float("epsilon", 1e-5))).reshape(x.shape).astype(x.dtype)
    column = (-1, *[1] * (x.ndim - 2))
    return normal * scale.reshape(column) + bias.reshape(column)
