"""Transposed convolution in numpy: every input element adds its multiple of the kernel to the output."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from graphopt.ir import Node


def conv_transpose(node: Node, operands: Sequence[np.ndarray | None]) -> np.ndarray:
    """ONNX ConvTranspose of any rank, with groups, strides, dilations, every way to pad.

    Operands: x (N, C, *spatial), w (C, M / group, *kernel), optional bias (M,). The whole output, pads
    included, is summed up tap by tap and then cut; an output that was asked to be larger ends in zeros.
    """
    x, w, *rest = operands
    assert x is not None and w is not None
    rank, groups = x.ndim - 2, node.int("group", 1)
    spatial, kernel = x.shape[2:], w.shape[2:]
    strides = _numbers(node, "strides", (1,) * rank)
    dilations = _numbers(node, "dilations", (1,) * rank)
    extra = _numbers(node, "output_padding", (0,) * rank)
    n, channels, maps = x.shape[0], x.shape[1] // groups, w.shape[1]
    sizes = zip(spatial, kernel, strides, dilations, extra, strict=True)
    whole = [s * (i - 1) + (k - 1) * d + 1 + e for i, k, s, d, e in sizes]
    inputs = x.reshape(n, groups, channels, -1)
    weights = w.reshape(groups, channels, maps, *kernel)
    begin, size = _begin(node, whole, spatial, strides), _size(node, whole, spatial, strides)
    ends = [max(b + s, w) for b, s, w in zip(begin, size, whole, strict=True)]
    y = np.zeros((n, groups, maps, *ends), x.dtype)
    for tap in product(*map(range, kernel)):
        first = [t * d for t, d in zip(tap, dilations, strict=True)]
        places = tuple(slice(f, f + s * i, s) for f, s, i in zip(first, strides, spatial, strict=True))
        part = np.einsum("ngci,gcm->ngmi", inputs, weights[_last(tap)])
        y[_last(places)] += part.reshape(n, groups, maps, *spatial)
    cut = tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))
    y = y.reshape(n, groups * maps, *ends)[_last(cut)]
    if rest and rest[0] is not None:
        y = y + rest[0].reshape(-1, *(1,) * rank)
    return np.ascontiguousarray(y.astype(x.dtype))


def _last(places: tuple[Any, ...]) -> tuple[Any, ...]:
    """An index of the last axes."""
    return (..., *places)


def _numbers(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return node.ints(name, default) or default


def _size(node: Node, whole: Sequence[int], spatial: Sequence[int], strides: Sequence[int]) -> list[int]:
    """What is left of each axis: by `output_shape`, by `auto_pad`, or by `pads`."""
    rank, given, mode = len(whole), node.ints("output_shape"), node.str("auto_pad", "NOTSET")
    if given is not None:
        return list(given[-rank:])
    if mode.startswith("SAME"):
        return [i * s for i, s in zip(spatial, strides, strict=True)]
    pads = _numbers(node, "pads", (0,) * 2 * rank) if mode == "NOTSET" else (0,) * 2 * rank
    return [size - b - e for size, b, e in zip(whole, pads[:rank], pads[rank:], strict=True)]


def _begin(node: Node, whole: Sequence[int], spatial: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Elements cut at the begin of each axis; an odd one is cut at the end for SAME_UPPER alone."""
    rank, mode = len(whole), node.str("auto_pad", "NOTSET")
    if node.ints("output_shape") is None and not mode.startswith("SAME"):
        return list(_numbers(node, "pads", (0,) * 2 * rank)[:rank]) if mode == "NOTSET" else [0] * rank
    cut = [max(w - s, 0) for w, s in zip(whole, _size(node, whole, spatial, strides), strict=True)]
    return [c // 2 if mode == "SAME_UPPER" else c - c // 2 for c in cut]
