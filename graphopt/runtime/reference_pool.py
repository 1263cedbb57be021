"""Pooling in numpy: windows by stride tricks. onnx.reference is slow here, and wrong for uneven pads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads


def max_pool(node: Node, x: np.ndarray) -> np.ndarray:
    """ONNX MaxPool of any rank without indices: x (N, C, *spatial) -> (N, C, *out)."""
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    windows = _windows(node, _padded(node, x, lowest, lowest))
    return np.ascontiguousarray(windows.max(axis=_taps(node, windows)))


def average_pool(node: Node, x: np.ndarray) -> np.ndarray:
    """ONNX AveragePool of any rank: x (N, C, *spatial) -> (N, C, *out); float16 sums in float32.

    What lies behind the end pads, where `ceil_mode` opens a last window, never counts.
    """
    wide = np.promote_types(x.dtype, np.float32)
    return np.ascontiguousarray(
        (sum_pool(node, x.astype(wide)) / divisors(node, x.shape[2:], wide)).astype(x.dtype)
    )


def sum_pool(node: Node, x: np.ndarray) -> np.ndarray:
    """The sum over the taps of each window that are inside the image: x (N, C, *spatial) -> (N, C, *out)."""
    windows = _windows(node, _padded(node, x, 0, 0))
    return np.ascontiguousarray(windows.sum(axis=_taps(node, windows)))


def divisors(node: Node, spatial: Sequence[int], dtype: np.typing.DTypeLike = np.float64) -> np.ndarray:
    """What each window of an AveragePool divides its sum by: (1, 1, *out)."""
    inside = np.ones((1, 1, *spatial), dtype)
    windows = _windows(node, _padded(node, inside, node.int("count_include_pad"), 0))
    counts: np.ndarray = windows.sum(axis=_taps(node, windows))
    return counts


def _taps(node: Node, windows: np.ndarray) -> tuple[int, ...]:
    rank = len(_kernel(node))
    return tuple(range(windows.ndim - rank, windows.ndim))


def _kernel(node: Node) -> tuple[int, ...]:
    return node.ints("kernel_shape", ()) or ()


def _ones(node: Node, name: str) -> tuple[int, ...]:
    return node.ints(name, (1,) * len(_kernel(node))) or ()


def _spans(node: Node) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(_kernel(node), _ones(node, "dilations"), strict=True)]


def _padded(node: Node, x: np.ndarray, pad: float, behind: float) -> np.ndarray:
    """x with its pads, and as much `behind` them as the last window of `ceil_mode` needs."""
    spatial, spans, strides = x.shape[2:], _spans(node), _ones(node, "strides")
    pads = explicit_pads(node, spatial, spans, strides)
    begin, end = pads[: len(spans)], pads[len(spans) :]
    x = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)], constant_values=pad)
    if not node.int("ceil_mode"):
        return x
    missing = []
    for size, low, whole, span, stride in zip(spatial, begin, x.shape[2:], spans, strides, strict=True):
        windows = -(-(whole - span) // stride) + 1
        windows -= (windows - 1) * stride >= size + low  # the last one would see pads alone
        missing.append(max((windows - 1) * stride + span - whole, 0))
    return np.pad(x, [(0, 0), (0, 0), *((0, m) for m in missing)], constant_values=behind)


def _windows(node: Node, x: np.ndarray) -> np.ndarray:
    """(N, C, *out, *kernel)."""
    spans = _spans(node)
    windows: np.ndarray = sliding_window_view(x, spans, axis=tuple(range(2, 2 + len(spans))))
    steps: Sequence[slice] = [slice(None, None, s) for s in _ones(node, "strides")]
    taps = [slice(None, None, d) for d in _ones(node, "dilations")]
    return windows[(slice(None), slice(None), *steps, *taps)]
