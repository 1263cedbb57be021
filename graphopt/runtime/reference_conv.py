"""Convolution in numpy: windows by stride tricks, one matrix product per group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.ir import Node


def conv(node: Node, operands: Sequence[np.ndarray | None]) -> np.ndarray:
    """ONNX Conv of any rank, with groups, strides, dilations, pads and auto_pad.

    Operands: x (N, C, *spatial), w (M, C / group, *kernel), optional bias (M,).
    """
    x, w, *rest = operands
    assert x is not None and w is not None
    rank, groups = x.ndim - 2, node.int("group", 1)
    strides = node.ints("strides", (1,) * rank)
    dilations = node.ints("dilations", (1,) * rank)
    assert strides is not None and dilations is not None
    span = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    pads = explicit_pads(node, x.shape[2:], span, strides)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    windows = sliding_window_view(x, span, axis=tuple(range(2, 2 + rank)))
    picks = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    windows = windows[(*picks, *(slice(None, None, d) for d in dilations))]
    n, out_shape = x.shape[0], windows.shape[2 : 2 + rank]
    # (N, G, C/G, *out, *kernel) x (G, M/G, C/G, *kernel) -> (N, G, M/G, *out)
    windows = windows.reshape(n, groups, x.shape[1] // groups, *windows.shape[2:])
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    taps = range(3 + rank, 3 + 2 * rank)
    parts = [
        np.tensordot(windows[:, g], weights[g], ([1, *(t - 1 for t in taps)], range(1, weights.ndim - 1)))
        for g in range(groups)
    ]
    y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1).reshape(n, w.shape[0], *out_shape)
    bias = rest[0] if rest else None
    if bias is not None:
        y = y + bias.reshape(1, -1, *(1,) * rank)
    return np.ascontiguousarray(y.astype(operands[0].dtype))  # type: ignore[union-attr]


def explicit_pads(
    node: Node, spatial: Sequence[int], span: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Begin pads, then end pads, of a window of `span` elements, whatever way the node says it."""
    rank = len(spatial)
    mode = node.str("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = node.ints("pads", (0,) * 2 * rank)
        assert pads is not None
        return pads
    if mode == "VALID":
        return (0,) * 2 * rank
    totals = [
        max((-(-size // stride) - 1) * stride + window - size, 0)
        for size, stride, window in zip(spatial, strides, span, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*small, *large) if mode == "SAME_UPPER" else (*large, *small)
