"""Quantised sums as sums of integers, in operators of the domain `graphopt.quant`.

    Conv(DQ(x, s, z), DQ(W, r), DQ(b, s r))  -->  Mul(Cast(quant::Conv(x, W, b) {x_zero_point: z}), s r)
    Gemm, MatMul of the like                 -->  Mul(Cast(quant::MatMul(x, W, b) {a_zero_point: z}), s r)
    MatMul(DQ(a, s, z), DQ(b, r, y))         -->  Mul(Cast(quant::MatMul(a, b) {a_zero_point: z, b_zero_point: y}), s r)

with rules of `requantize` behind them, so that a layer ends in one multiplication and `QuantizeLinear(..., 1, zero)`,
of `move_quantization`, and of `lower_dynamic` for zero points that are known at run time alone.
Sums of integers are exact in any order, where float sums of dequantised numbers are not; the results are those of ONNX
Runtime's integer kernels (QLinearConv, QGemm) to the bit.

The contract of `graphopt.quant`:

- `Conv(x, W, bias?) -> int32` with ONNX's attributes: the sum of (x - x_zero_point) * W over the taps inside the image,
  plus the bias. x is int8 or uint8 (int16 or uint16 where the sums of the model's weights still fit int32), W a
  constant (filters, channels / group, *kernel) without zero point, int8 or, where a zero point was taken off it, int16;
  the bias is int32 (filters,). The sums fit int32.
- `ConvTranspose(x, W, bias?)` alike, W being (channels, filters / group, *kernel).
- `MatMul(a, b, bias?) -> int32`: the sum of (a - a_zero_point) * (b - b_zero_point), shapes as numpy's. A constant b
  has no zero point and is int8 or int16 as W is; only with one is there a bias (columns,).

`assign_layout` puts the images of Conv and ConvTranspose into blocks: the same operators, whose operand x and result
have blocked types (`graphopt.ir.layout`), W and the bias staying as they are; `kernel_shape` is always there then. For
targets that keep images channels-last both have one block of all their channels, whatever the groups; for others the
result has blocks of 16 channels. x has blocks of 16, or one block of all its channels where they are at most 8;
lanes beyond the last channel hold any number. Where group > 1, x has blocks of 16, and the groups are single channels
(as many filters as channels) or whole blocks of both. A plain x or result means that no template need serve it.

What follows in a group is `Cast` to float32, `Mul` by a scalar or by one number per channel (blocked as the result is),
`Add` of a float bias (alike) or of a `DequantizeLinear` of another image, activations, and `QuantizeLinear` to bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.algebra import channel_axis, per_channel
from graphopt.passes.integer_sums import as_floats, by_channel, fits, floats, integer_sums, narrowest
from graphopt.passes.integers import (
    EXACT,
    LARGEST_SUM,
    MEANS,
    PRODUCTS,
    Weights,
    dequantized,
    filter_reach,
    same_scale,
    weight_axis,
    weights_of,
)
from graphopt.passes.lower_dynamic import DYNAMIC
from graphopt.passes.move_quantization import MOVING
from graphopt.passes.requantize import REQUANTIZING
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class IntegerProduct(Rule):
    """Conv(DQ(x, s, z), DQ(W, r), DQ(b, s r)) --> Mul(Cast(quant::Conv(x, W, b)), s r)."""

    name = "lower-integer-product"
    pattern = Op(
        PRODUCTS,
        Any("x"),
        Op("DequantizeLinear", Const(), Const(), Const(optional=True), bind="weights", shared=True),
        Any("b", optional=True),
    )

    def check(self, match: Match) -> str | None:
        node = match.root
        source = dequantized(match["x"])
        if source is None:
            return f"'{match['x'].name}' is not dequantised with one scale"
        weights = weights_of(match.node("weights"), weight_axis(node))
        if weights is None or weights.integers.ndim < 2:
            return "the weights are not quantised by output channel"
        if not fits(weights.integers, np.int16):
            return "the weights do not fit 16 bits"
        if node.op_type == "Gemm" and (node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1):
            return "alpha or beta is not one"
        if node.op_type == "ConvTranspose" and node.int("group", 1) != 1 and weights.scale.size > 1:
            return "a scale belongs to a channel of every group"
        if match.get("b") is not None and _bias_of(match, source.scale * weights.scale) is None:
            return f"the bias '{match['b'].name}' is not constant, one number per channel"
        largest = float(source.reach * filter_reach(node, weights.integers).max(initial=0.0))
        return None if largest < LARGEST_SUM else f"sums up to {largest:.0f} do not fit 32 bits"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, source = match.root, dequantized(match["x"])
        weights = weights_of(match.node("weights"), weight_axis(node))
        assert source is not None and weights is not None
        scale = source.scale * weights.scale
        bias = None if match.get("b") is None else _bias_of(match, scale)
        inside = bias is not None and bias.is_integer and _fits_sum(node, source.reach, weights, bias)
        integers = weights.integers.T if node.int("transB") else weights.integers
        operands = [source.x, narrowest(build, integers, match.node("weights").output.name)]
        if inside and bias is not None:
            operands.append(build.const(bias.numbers.astype(np.int32), name=match["b"].name))
        if node.op_type in ("Gemm", "MatMul"):
            if node.int("transA"):
                operands[0] = build.op("Transpose", source.x, perm=(1, 0))
            zero = {"a_zero_point": source.zero_point}
            sums = integer_sums(build, "MatMul", operands, zero, node.output.shape)
        else:
            attributes = {**node.attributes, "x_zero_point": source.zero_point}
            sums = integer_sums(build, node.op_type, operands, attributes, node.output.shape)
        sums = as_floats(build, sums)
        if bias is not None and bias.is_integer and not inside:
            sums = build.op("Add", sums, floats(build, by_channel(node, bias.numbers), match["b"].name))
        result = build.op("Mul", sums, floats(build, by_channel(node, scale), f"{node.name}.scale"))
        if bias is not None and not bias.is_integer:
            result = build.op("Add", result, floats(build, by_channel(node, bias.numbers), match["b"].name))
        return result


class IntegerAttention(Rule):
    """MatMul(DQ(a, s, z), DQ(b, r, y)) --> Mul(Cast(quant::MatMul(a, b)), s r)."""

    name = "lower-integer-attention"
    pattern = Op("MatMul", Any("a"), Any("b"))

    def check(self, match: Match) -> str | None:
        a, b = dequantized(match["a"]), dequantized(match["b"])
        if a is None or b is None:
            return "an operand is not dequantised with one scale"
        if b.x.constant is not None:
            return "its weights are constant"
        depth = (match["a"].shape or ("",))[-1]
        if not isinstance(depth, int):
            return "the length of its sums is not known"
        largest = a.reach * b.reach * depth
        return None if largest < LARGEST_SUM else f"sums up to {largest:.0f} do not fit 32 bits"

    def rewrite(self, match: Match, build: Builder) -> Value:
        a, b = dequantized(match["a"]), dequantized(match["b"])
        assert a is not None and b is not None
        zeros = {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point}
        sums = integer_sums(build, "MatMul", [a.x, b.x], zeros, match.root.output.shape)
        scale = floats(build, (a.scale * b.scale).reshape(()), f"{match.root.name}.scale")
        return build.op("Mul", as_floats(build, sums), scale)


class IntegerMean(Rule):
    """GlobalAveragePool(DQ(x, s, z)) --> Mul(GlobalAveragePool(DQ(x, 1, z)), s), sums of integers in float32."""

    name = "lower-integer-mean"
    pattern = Op(MEANS, Any("x"), Const("axes", optional=True))

    def check(self, match: Match) -> str | None:
        source, x = dequantized(match["x"]), match["x"]
        if source is None:
            return f"'{x.name}' is not dequantised with one scale"
        if source.scale[0] == 1:
            return "its scale is one"
        if not x.is_static or not match.root.output.is_static:
            return "the number of elements in a mean is not known"
        largest = source.reach * (x.size // max(match.root.output.size, 1))
        return None if largest < EXACT else f"sums up to {largest} are not exact in float32"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, source = match.root, dequantized(match["x"])
        assert source is not None
        producer = match["x"].producer
        assert producer is not None
        centred = build.op(
            "DequantizeLinear", source.x, floats(build, np.ones(()), "one"), *producer.inputs[2:]
        )
        mean = build.op(node.op_type, centred, *node.inputs[1:], **node.attributes)
        return build.op("Mul", mean, floats(build, source.scale.reshape(()), f"{node.name}.scale"))


@dataclass(frozen=True)
class _Bias:
    """One number per output channel; where `is_integer`, in units of the scale of the sums."""

    numbers: np.ndarray
    is_integer: bool


def _bias_of(match: Match, scale: np.ndarray) -> _Bias | None:
    """The bias of a product whose sums have `scale`; None when it is computed, or varies along another axis."""
    channels = match.root.output.static_shape[channel_axis(match.root)]
    rank = 2 if match.root.op_type == "Gemm" else 1
    value, producer = match["b"], match["b"].producer
    if value.constant is not None:
        data = per_channel(value.constant, rank, channels, -1)
        return None if data is None else _Bias(data, False)
    bias = None
    if producer is not None and producer.is_op("DequantizeLinear"):
        bias = weights_of(producer, -1)
    data = None if bias is None else per_channel(bias.integers, rank, channels, -1)
    if bias is None or data is None:
        return None
    if same_scale(bias.scale, scale):
        return _Bias(data, True)
    return _Bias(data * bias.scale, False)


def _fits_sum(node: Node, reach: float, weights: Weights, bias: _Bias) -> bool:
    """Whether the sums fit int32 with the bias in them."""
    by_channel = filter_reach(node, weights.integers)
    if by_channel.size != bias.numbers.size:  # ConvTranspose in groups
        by_channel = by_channel.max(initial=0.0)
    return bool((reach * by_channel + np.abs(bias.numbers)).max(initial=0.0) < LARGEST_SUM)


RULES = (IntegerProduct(), IntegerAttention(), IntegerMean(), *DYNAMIC, *REQUANTIZING, *MOVING)


@dataclass(frozen=True)
class LowerInteger(RulePass):
    """Sum quantised numbers as integers, move them as bytes, and scale the sums."""

    name: ClassVar[str] = "lower-integer"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
