"""Convolutions and pools in JAX, with ONNX's pads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads

Operands = Sequence[Array | None]


def conv(node: Node, x: Array, w: Array, bias: Array | None = None) -> Array:
    rank = x.ndim - 2
    strides, dilations = _of(node, "strides", rank), _of(node, "dilations", rank)
    span = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    pads = _pairs(explicit_pads(node, x.shape[2:], span, strides))
    groups = node.int("group", 1)
    if groups == x.shape[1] == w.shape[0]:
        y = _depthwise(jnp.pad(x, [(0, 0), (0, 0), *pads]), w, strides, dilations)
    else:
        y = lax.conv_general_dilated(x, w, strides, pads, rhs_dilation=dilations, feature_group_count=groups)
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * rank)


def _depthwise(x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Tap by tap: XLA's grouped convolutions and their gradients take ten times as long on processors."""
    span = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    ends = [(n - s) // step for n, s, step in zip(x.shape[2:], span, strides, strict=True)]
    total = jnp.zeros(())
    for tap in np.ndindex(*w.shape[2:]):
        picks = [
            slice(k * d, k * d + end * step + 1, step)
            for k, d, end, step in zip(tap, dilations, ends, strides, strict=True)
        ]
        weights = w[(slice(None), 0, *tap)].reshape(1, -1, *(1,) * len(picks))
        total = total + x[(slice(None), slice(None), *picks)] * weights
    return total


def max_pool(node: Node, x: Array) -> Array:
    window, strides, pads = _window(node, x)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def average_pool(node: Node, x: Array) -> Array:
    window, strides, pads = _window(node, x)
    total = lax.reduce_window(x, 0.0, lax.add, window, strides, pads)
    if node.int("count_include_pad"):
        size = 1
        for length in window:
            size *= length
        return total / size
    return total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, window, strides, pads)


def why_not(node: Node) -> str:
    """What of these operators is not done; empty where all is."""
    if node.int("ceil_mode"):
        return "ceil_mode is not done"
    if node.is_op("ConvTranspose"):
        return "it is not done"
    return ""


def over_pixels(reduce: Callable) -> Callable[[Node, Array], Array]:
    """Global pools."""
    return lambda node, x: reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def _window(node: Node, x: Array) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    rank = x.ndim - 2
    kernel, strides, dilations = (
        node.ints("kernel_shape") or (),
        _of(node, "strides", rank),
        _of(node, "dilations", rank),
    )
    assert all(d == 1 for d in dilations)
    pads = _pairs(explicit_pads(node, x.shape[2:], list(kernel), strides))
    return (1, 1, *kernel), (1, 1, *strides), [(0, 0), (0, 0), *pads]


def _of(node: Node, name: str, rank: int) -> tuple[int, ...]:
    return node.ints(name, (1,) * rank) or ()


def _pairs(pads: Sequence[int]) -> list[tuple[int, int]]:
    half = len(pads) // 2
    return [(int(a), int(b)) for a, b in zip(pads[:half], pads[half:], strict=True)]
