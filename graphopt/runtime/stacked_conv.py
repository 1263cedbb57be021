"""Convolutions of many images of two axes in numpy, tap by tap.

With a stride of one, what a tap reads of a padded image is one piece of its rows laid end to end, so that a tap is one
product of long rows. The few numbers that lie between two rows of the result are computed too, and dropped. Sums are
in float32, of the channels first and then of the taps, where the reference sums both at once.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads

CHUNK = 1 << 17
"""Numbers of the images that are convolved at once: what a tap reads and writes stays in caches."""


def is_depthwise(node: Node) -> bool:
    """Whether each channel of an image is convolved by itself."""
    weights = node.input(1)
    if not node.is_op("Conv") or weights is None or weights.type is None or weights.rank != 4:
        return False
    return node.int("group", 1) > 1 and weights.static_shape[1] == 1


def conv_by_taps(
    node: Node, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None
) -> np.ndarray | None:
    """A depthwise convolution, or one without groups, of images (n, channels, height, width); None for others."""
    if x.ndim != 4 or weights.ndim != 4 or not (is_depthwise(node) or node.int("group", 1) == 1):
        return None
    step = max(1, CHUNK // max(x[0].size, 1))
    parts = [_convolved(node, x[start : start + step], weights) for start in range(0, len(x), step)]
    y = np.concatenate(parts)
    if bias is not None:
        y += bias.reshape(-1, 1, 1)
    return y


def _convolved(node: Node, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    strides, dilations = node.ints("strides", (1, 1)) or (), node.ints("dilations", (1, 1)) or ()
    taps = weights.shape[2:]
    span = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
    pads = explicit_pads(node, x.shape[2:], span, strides)
    if any(pads):
        x = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    if is_depthwise(node):
        x = np.repeat(x, len(weights) // x.shape[1], axis=1) if len(weights) > x.shape[1] else x
    height, width = ((size - k) // s + 1 for size, k, s in zip(x.shape[2:], span, strides, strict=True))
    if max(strides) > 1:
        return _strided(node, x, weights, (height, width))
    wide = x.shape[3]
    flat, length = x.reshape(*x.shape[:2], -1), (height - 1) * wide + width
    y = np.zeros((len(x), len(weights), height * wide), x.dtype)
    made, one = y[..., :length], np.empty((len(x), len(weights), length), x.dtype)
    for i, j in np.ndindex(*taps):
        first = i * dilations[0] * wide + j * dilations[1]
        made += _tap(node, flat[..., first : first + length], weights[:, :, i, j], one)
    return y.reshape(len(x), len(weights), height, wide)[..., :width]


def _strided(node: Node, x: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """With strides: what a tap reads is picked first."""
    strides, dilations = node.ints("strides", (1, 1)) or (), node.ints("dilations", (1, 1)) or ()
    y = np.zeros((len(x), len(weights), shape[0] * shape[1]), x.dtype)
    one = np.empty_like(y)
    for i, j in np.ndindex(*weights.shape[2:]):
        rows, columns = (
            slice(tap * d, tap * d + (size - 1) * s + 1, s)
            for tap, d, size, s in zip((i, j), dilations, shape, strides, strict=True)
        )
        picked = x[:, :, rows, columns].reshape(*x.shape[:2], -1)
        y += _tap(node, picked, weights[:, :, i, j], one)
    return y.reshape(len(x), len(weights), *shape)


def _tap(node: Node, x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> np.ndarray:
    """What one tap adds, of x (n, channels, places)."""
    if is_depthwise(node):
        return np.multiply(x, weights, out=out)
    return np.matmul(weights, x, out=out)
