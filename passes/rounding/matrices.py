"""Layers as matrix products: rows of weights against rows of operands.

    y[p, m] = sum_k x[p, k] w[m, k]          for each group g of a grouped convolution

A row of weights makes one output channel. A convolution's operand becomes a matrix of windows (im2col), pads as
zeros, each group by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads

CHUNK = 1 << 24
"""Numbers in one matrix of windows."""


def has_rows(node: Node) -> bool:
    """Whether `node` is a product that these functions know, with weights of one matrix for each group."""
    weights = node.input(1)
    if weights is None or weights.type is None or not weights.is_static:
        return False
    if node.is_op("MatMul"):
        return weights.rank == 2
    return node.is_op("Conv") or (node.is_op("Gemm") and not node.int("transA"))


def weight_rows(node: Node, weights: np.ndarray) -> np.ndarray:
    """`weights`, or anything of their shape, as (groups, channels of a group, k)."""
    if node.op_type == "Conv":
        groups = node.int("group", 1)
        return weights.reshape(groups, len(weights) // groups, -1)
    return (weights if node.int("transB") else weights.T)[None]


def weights_from_rows(node: Node, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `weight_rows`."""
    if node.op_type == "Conv":
        return np.ascontiguousarray(rows.reshape(shape))
    return np.ascontiguousarray(rows[0] if node.int("transB") else rows[0].T)


def operand_rows(node: Node, x: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[slice, np.ndarray]]:
    """What weights of `shape` are multiplied with, for a stack of operands: (samples, matrix (groups, p, k)).

    Chunks of samples keep the matrices small.
    """
    if node.op_type != "Conv":
        yield slice(None), x.reshape(1, -1, x.shape[-1])
        return
    size = x[0].size * int(np.prod(shape[2:]))
    step = max(1, CHUNK // max(size, 1))
    for start in range(0, len(x), step):
        chosen = slice(start, start + step)
        images = x[chosen]
        yield chosen, windows(node, images.reshape(-1, *images.shape[2:]), shape)


def windows(node: Node, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The windows of images x (n, channels, ...) that weights of `shape` see: (groups, places, k)."""
    rank, groups = x.ndim - 2, node.int("group", 1)
    strides = node.ints("strides", (1,) * rank) or ()
    dilations = node.ints("dilations", (1,) * rank) or ()
    span = [(k - 1) * d + 1 for k, d in zip(shape[2:], dilations, strict=True)]
    pads = explicit_pads(node, x.shape[2:], span, strides)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    seen = sliding_window_view(x, span, axis=tuple(range(2, 2 + rank)))
    seen = seen[(slice(None), slice(None), *(slice(None, None, s) for s in (*strides, *dilations)))]
    n, places, taps = len(x), seen.shape[2 : 2 + rank], seen.shape[2 + rank :]
    grouped = seen.reshape(n, groups, x.shape[1] // groups, *places, *taps)
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    return np.ascontiguousarray(grouped.transpose(order)).reshape(groups, n * int(np.prod(places)), -1)


def result_rows(node: Node, y: np.ndarray) -> np.ndarray:
    """A stack of results as (groups, p, channels of a group), beside `operand_rows`."""
    if node.op_type != "Conv":
        return y.reshape(1, -1, y.shape[-1])
    groups = node.int("group", 1)
    images = y.reshape(-1, *y.shape[2:])
    last = np.moveaxis(images, 1, -1)
    return last.reshape(-1, groups, last.shape[-1] // groups).transpose(1, 0, 2)


def results_from_rows(node: Node, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The inverse of `result_rows`, of the shape of `like`."""
    if node.op_type != "Conv":
        return rows.reshape(like.shape)
    images = like.reshape(-1, *like.shape[2:])
    last = rows.transpose(1, 0, 2).reshape(images.shape[0], *images.shape[2:], images.shape[1])
    return np.moveaxis(last, -1, 1).reshape(like.shape)
