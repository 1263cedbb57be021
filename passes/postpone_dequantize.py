"""Dequantisation behind the sums, which then are sums of integers.

    Conv(DQ(x, s, z), DQ(W, r), DQ(b, s r))   -->   Mul(Conv(x - z, W, b), s r)        Gemm, MatMul, ... alike
    GlobalAveragePool(DQ(x, s, z))            -->   Mul(GlobalAveragePool(x - z), s)   ReduceMean alike
    Add(Mul(v, c), DQ(b, c))                  -->   Mul(Add(v, b), c)
    Relu(Mul(v, c))                           -->   Mul(Relu(v), c)
    Q(Mul(v, c), s, z)                        -->   Q(Mul(v, c / s), 1, z)

x, W, b and v are integers kept in float32. Float sums of dequantised numbers depend on the order of summation, and
so does the rounding of what lies near a tie; sums of integers below 2^24 are exact in any order. The multiplier
s r / t of a requantisation is rounded as ONNX Runtime's integer kernels round it (QLinearConv, QGemm), so that their
results are met to the bit. AveragePool stays as it is: where ONNX Runtime finds no integer kernel for it, it adds the
dequantised numbers row by row, as our kernels do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.algebra import channel_axis, per_channel
from graphopt.passes.integers import (
    EXACT,
    MEANS,
    PRODUCTS,
    centred,
    constant_of,
    dequantized,
    filter_reach,
    range_of,
    reach,
    weight_axis,
)
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

SAME_SCALE = 2.0**-22
"""Relative: the scale of a bias is the product of two, rounded to float32 by whoever wrote the model."""


class IntegerProduct(Rule):
    """Conv(DQ(x, s, z), DQ(W, r), DQ(b, s r)) --> Mul(Conv(x - z, W, b), s r)."""

    name = "postpone-dequantize-product"
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
        weights = constant_of(match.node("weights"), weight_axis(node))
        if weights is None or weights.integers.ndim < 2:
            return "the weights are not quantised by output channel"
        if node.op_type == "Gemm" and (node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1):
            return "alpha or beta is not one"
        if node.op_type == "ConvTranspose" and node.int("group", 1) != 1:
            return "a scale belongs to a channel of every group"
        if match.get("b") is not None and _bias_of(match, source.scale * weights.scale) is None:
            return f"the bias '{match['b'].name}' is not constant, one number per channel"
        largest = float(source.reach * filter_reach(node, weights.integers).max(initial=0.0))
        return None if largest < EXACT else f"sums up to {largest:.0f} are not exact in float32"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, source = match.root, dequantized(match["x"])
        weights = constant_of(match.node("weights"), weight_axis(node))
        assert source is not None and weights is not None
        scale = source.scale * weights.scale
        operands = [
            centred(build, match["x"]),
            _floats(build, weights.integers, match.node("weights").output.name),
        ]
        bias = None if match.get("b") is None else _bias_of(match, scale)
        if bias is not None and bias.is_integer:
            largest = source.reach * filter_reach(node, weights.integers) + np.abs(bias.numbers)
            if largest.max() < EXACT:
                operands.append(_floats(build, bias.numbers, match["b"].name))
                bias = None
        result = build.op(node.op_type, *operands, **node.attributes)
        if bias is not None and bias.is_integer:
            result = build.op("Add", result, _floats(build, _by_channel(node, bias.numbers), match["b"].name))
        result = build.op("Mul", result, _floats(build, _by_channel(node, scale), f"{node.name}.scale"))
        if bias is not None and not bias.is_integer:
            result = build.op("Add", result, _floats(build, _by_channel(node, bias.numbers), match["b"].name))
        return result


@dataclass(frozen=True)
class _Bias:
    """One number per output channel; where `is_integer`, in units of the scale of the sums."""

    numbers: np.ndarray
    is_integer: bool


def _bias_of(match: Match, scale: np.ndarray) -> _Bias | None:
    """The bias of a product whose sums have `scale`; None when it is computed, or varies along another axis."""
    channels = match.node("weights").output.static_shape[weight_axis(match.root)]
    rank = 2 if match.root.op_type == "Gemm" else 1
    value, producer = match["b"], match["b"].producer
    if value.constant is not None:
        data = per_channel(value.constant, rank, channels, -1)
        return None if data is None else _Bias(data, False)
    bias = None
    if producer is not None and producer.is_op("DequantizeLinear"):
        bias = constant_of(producer, -1)
    data = None if bias is None else per_channel(bias.integers, rank, channels, -1)
    if bias is None or data is None:
        return None
    if _same_scale(bias.scale, scale):
        return _Bias(data, True)
    return _Bias(data * bias.scale, False)


def _same_scale(first: np.ndarray, second: np.ndarray) -> bool:
    if first.size not in (1, second.size) and second.size != 1:
        return False
    return bool(np.all(np.abs(first.astype(np.float64) / second - 1) <= SAME_SCALE))


def _floats(build: Builder, data: np.ndarray, name: str) -> Value:
    return build.const(np.asarray(data, np.float32), name=name)


def _by_channel(node: Node, data: np.ndarray) -> np.ndarray:
    """One number per output channel as it broadcasts against the node's output; a single one stays single."""
    if data.size == 1:
        return data.reshape(())
    spatial = (node.output.rank or 2) - 2 if channel_axis(node) == 1 else 0
    return data.reshape(-1, *(1,) * spatial)


class IntegerMean(Rule):
    """GlobalAveragePool(DQ(x, s, z)) --> Mul(GlobalAveragePool(x - z), s)."""

    name = "postpone-dequantize-mean"
    pattern = Op(MEANS, Any("x"), Const("axes", optional=True))

    def check(self, match: Match) -> str | None:
        source, x = dequantized(match["x"]), match["x"]
        if source is None:
            return f"'{x.name}' is not dequantised with one scale"
        if not x.is_static or not match.root.output.is_static:
            return "the number of elements in a mean is not known"
        largest = source.reach * (x.type.size // max(match.root.output.type.size, 1))  # type: ignore[union-attr]
        return None if largest < EXACT else f"sums up to {largest} are not exact in float32"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, source = match.root, dequantized(match["x"])
        assert source is not None
        mean = build.op(node.op_type, centred(build, match["x"]), *node.inputs[1:], **node.attributes)
        return build.op("Mul", mean, _floats(build, source.scale, f"{node.name}.scale"))


class IntegerBias(Rule):
    """Add(Mul(v, c), DQ(b, c)) --> Mul(Add(v, b), c)."""

    name = "postpone-dequantize-bias"
    pattern = Op(
        "Add",
        Op("Mul", Any("v"), Const("c")),
        Op("DequantizeLinear", Const("b"), Const(), Const(optional=True), bind="bias", shared=True),
    )

    def check(self, match: Match) -> str | None:
        bias, known = constant_of(match.node("bias"), -1), range_of(match["v"])
        if bias is None or known is None:
            return f"'{match['v'].name}' are no integers, or the bias has no scale for each channel"
        if match.root.output.shape != match["v"].shape or match.data("c").ndim > 1:
            return "the bias is not one number per channel of the last axis"
        if not _same_scale(bias.scale, match.data("c")):
            return "the bias has another scale"
        largest = reach(known) + float(np.abs(bias.integers).max(initial=0.0))
        return None if largest < EXACT else f"sums up to {largest:.0f} are not exact in float32"

    def rewrite(self, match: Match, build: Builder) -> Value:
        bias = constant_of(match.node("bias"), -1)
        assert bias is not None
        sums = build.op("Add", match["v"], _floats(build, bias.integers, match["b"].name))
        return build.op("Mul", sums, match["c"])


class ReluOfIntegers(Rule):
    """Relu(Mul(v, c)) --> Mul(Relu(v), c)."""

    name = "scale-behind-relu"
    pattern = Op("Relu", Op("Mul", Any("v"), Const("c")))

    def check(self, match: Match) -> str | None:
        if range_of(match["v"]) is None:
            return f"'{match['v'].name}' are no integers"
        return None if (match.data("c") > 0).all() else f"'{match['c'].name}' is not positive"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Mul", build.op("Relu", match["v"]), match["c"])


class Requantize(Rule):
    """Q(Mul(v, c), s, z) --> Q(Mul(v, c / s), 1, z)."""

    name = "requantize"
    pattern = Op(
        "QuantizeLinear",
        Op("Mul", Any("v"), Const("c")),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        scale = match["s"].scalar()
        if range_of(match["v"]) is None:
            return f"'{match['v'].name}' are no integers"
        if scale is None or match["s"].dtype is not DType.float32:
            return f"'{match['s'].name}' is not a single number in float32"
        return "it is requantised already" if scale == 1 else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        factor = np.asarray(match.data("c") / match["s"].scalar(), np.float32)
        scaled = match["v"]
        if (factor != 1).any():
            scaled = build.op("Mul", scaled, _floats(build, factor, f"{match.root.name}.multiplier"))
        operands = (scaled, _floats(build, np.ones((), np.float32), "one"), match.get("z"))
        return build.op("QuantizeLinear", *operands, **match.root.attributes)


RULES = (
    IntegerProduct(),
    IntegerMean(),
    IntegerBias(),
    ReluOfIntegers(),
    Requantize(),
)


@dataclass(frozen=True)
class PostponeDequantize(RulePass):
    """Sum quantised numbers as integers, and scale the sums."""

    name: ClassVar[str] = "postpone-dequantize"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
