"""What the folding rules share: constants seen as one number per channel."""

from __future__ import annotations

import numpy as np

from graphopt.ir import Node, Value


def per_channel(data: np.ndarray, rank: int, channels: int, axis: int = 1) -> np.ndarray | None:
    """`data`, which broadcasts against a tensor of `rank`, as one number per index of `axis` (float64).

    None when it varies along another axis, or would change the tensor's shape.
    """
    if data.ndim > rank:
        return None
    shape = (1,) * (rank - data.ndim) + data.shape
    axis %= rank
    if any(dim != 1 for i, dim in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(data.astype(np.float64).reshape(-1), (channels,))


def private(value: Value, reader: Node) -> bool:
    """A constant that only `reader` reads: it may be replaced without keeping the old one alive."""
    return value.is_constant and all(user is reader for user in value.users)


def output_channels(node: Node) -> int | None:
    """Output channels of a Conv, ConvTranspose, Gemm or MatMul with constant weights."""
    weights = node.input(1)
    if weights is None or weights.constant is None or weights.constant.ndim < 2:
        return None
    shape = weights.constant.shape
    if node.op_type == "Conv":
        return shape[0]
    if node.op_type == "ConvTranspose":
        return shape[1] * node.int("group", 1)
    if node.op_type == "Gemm":
        return shape[0] if node.int("transB") else shape[1]
    return shape[-1]


def scale_outputs(node: Node, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights whose outputs are those of `weights` times `scale`, channel by channel (float64)."""
    w = weights.astype(np.float64)
    if node.op_type == "Conv":
        return w * scale.reshape(-1, *(1,) * (w.ndim - 1))
    if node.op_type == "ConvTranspose":
        groups = node.int("group", 1)
        grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        by_group = scale.reshape(groups, 1, w.shape[1], *(1,) * (w.ndim - 2))
        return (grouped * by_group).reshape(w.shape)
    if node.op_type == "Gemm" and node.int("transB"):
        return w * scale.reshape(-1, 1)
    return w * scale


def channel_axis(node: Node) -> int:
    """The axis of the output channels in the node's output."""
    return 1 if node.op_type in ("Conv", "ConvTranspose") else -1
