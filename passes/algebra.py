"""What the rules share: constants seen as one number per channel, and the axes of a reduction."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graphopt.ir import Node, Value
from graphopt.rewrite import Builder, Match, Rule


class ToOperator(Rule):
    """A rule that replaces its match by one operator on x; the result must have the type of x."""

    operator: ClassVar[str]
    attributes: ClassVar[dict[str, Any]] = {}

    def check(self, match: Match) -> str | None:
        x = match["x"]
        if x.type is None or not x.dtype.is_float:
            return f"'{x.name}' is not a float"
        return "a constant changes the shape" if match.root.output.shape != x.shape else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op(self.operator, match["x"], **self.attributes)


REDUCTIONS = tuple(
    f"Reduce{k}"
    for k in ("Max", "Min", "Mean", "Sum", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
)


def reduced_axes(node: Node) -> tuple[int, ...] | None:
    """The axes that a reduction reduces, non-negative and sorted; None when they are not known."""
    source, axes = node.input(0), node.input(1)
    if source is None or source.rank is None or (axes is not None and axes.constant is None):
        return None
    if axes is None or axes.constant is None or axes.constant.size == 0:
        return () if node.int("noop_with_empty_axes") else tuple(range(source.rank))
    return tuple(sorted(int(a) % source.rank for a in axes.constant.reshape(-1)))


def slice_starts(node: Node) -> list[int] | None:
    """Where a Slice starts on each axis; None where its steps are not 1, or not everything is known."""
    x, *bounds = node.inputs
    if x is None or not x.is_static or any(v is not None and v.constant is None for v in bounds):
        return None
    starts, ends, axes, steps = (*(None if v is None else v.constant for v in bounds), None, None)[:4]
    assert starts is not None and ends is not None
    if steps is not None and any(int(step) != 1 for step in steps):
        return None
    first = [0] * len(x.static_shape)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = number if axes is None else int(axes[number]) % len(first)
        first[axis], _, _ = slice(int(start), int(end)).indices(x.static_shape[axis])
    return first


def same_type(match: Match, value: Value) -> str | None:
    """Why `value` may not stand for the root's output."""
    old = match.root.output.type
    if old is None or value.type is None:
        return "a type is unknown"
    if old.dtype is not value.type.dtype or old.shape != value.type.shape:
        return f"the result is {old}, '{value.name}' is {value.type}"
    return None


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


def input_channels(node: Node) -> int | None:
    """Input channels of a Conv, ConvTranspose, Gemm or MatMul with constant weights.

    None where they are not the axis `input_axis` of the first operand.
    """
    weights = node.input(1)
    if weights is None or weights.constant is None or node.int("transA"):
        return None
    shape = weights.constant.shape
    if node.op_type == "Conv":
        return shape[1] * node.int("group", 1)
    if node.op_type == "Gemm" and node.int("transB"):
        return shape[1]
    return shape[0] if node.op_type != "MatMul" or len(shape) == 2 else None


def input_axis(node: Node) -> int:
    """The axis of the input channels in the node's first operand."""
    return channel_axis(node)


def scale_inputs(node: Node, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights that do to x what `weights` do to `scale` times x, channel by channel (float64)."""
    w = weights.astype(np.float64)
    if node.op_type == "Conv":
        groups = node.int("group", 1)
        grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        by_group = scale.reshape(groups, 1, w.shape[1], *(1,) * (w.ndim - 2))
        return (grouped * by_group).reshape(w.shape)
    if node.op_type == "Gemm" and node.int("transB"):
        return w * scale
    return w * scale.reshape(-1, *(1,) * (w.ndim - 1))


def shift_inputs(node: Node, weights: np.ndarray, shift: np.ndarray) -> np.ndarray | None:
    """What adding `shift` to x, channel by channel, adds to each output channel (float64).

    None where pads, which are not shifted, make it depend on the place: of a Conv with pads, of a ConvTranspose.
    """
    if not shift.any():
        return np.zeros(output_channels(node) or 0)
    if node.op_type == "ConvTranspose" or _pads(node):
        return None
    moved = scale_inputs(node, weights, shift)
    if node.op_type == "Conv":
        return moved.sum(axis=tuple(range(1, moved.ndim)))
    return node.float("alpha", 1.0) * moved.sum(axis=1 if node.int("transB") else 0)


def _pads(node: Node) -> bool:
    return node.str("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(node.ints("pads", ()) or ())


def bias_of(node: Node, channels: int) -> np.ndarray | None:
    """The bias in float64, one number per output channel, zeros when there is none.

    None when it is computed, or varies along another axis.
    """
    bias = node.input(2)
    if bias is None:
        return np.zeros(channels)
    if bias.constant is None:
        return None
    gemm = node.op_type == "Gemm"
    data = per_channel(bias.constant, 2 if gemm else 1, channels, -1)
    return None if data is None else data * (node.float("beta", 1.0) if gemm else 1.0)


def rebuilt(
    build: Builder, anchor: Node, x: Value, *, weights: np.ndarray | None, bias: np.ndarray | None
) -> Value:
    """`anchor` on x with other weights (None: its own) and bias (None: without one).

    A MatMul with a bias becomes a Gemm.
    """
    w = anchor.input(1)
    assert w is not None
    operands = [x, w if weights is None else build.const(weights, like=w, name=w.name)]
    if bias is None:
        return build.op(anchor.op_type, *operands, **anchor.attributes)
    attributes = {**anchor.attributes}
    if anchor.op_type == "Gemm":
        attributes["beta"] = 1.0
    operands.append(build.const(bias, like=w, name=f"{anchor.name}.bias"))
    return build.op("Gemm" if anchor.op_type == "MatMul" else anchor.op_type, *operands, **attributes)


def takes_bias(anchor: Node) -> bool:
    """Whether a bias of one number per output channel has a place: not in a MatMul of more than two axes."""
    return anchor.op_type != "MatMul" or (anchor.output.rank == 2 and anchor.input(1).rank == 2)  # type: ignore[union-attr]
