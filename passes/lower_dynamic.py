"""Sums of numbers whose scale or zero point is known at run time alone; rules of `lower_integer`.

    MatMul(DQ(x, s, z), DQ(W, r))  -->  Mul(Cast(quant::MatMul(x, W) - z sum(W)), s r)       Conv, Gemm alike
    MatMulInteger(x, W, z, y)      -->  quant::MatMul(x, W - y) - z sum(W - y)
    ConvInteger(x, W, z, y)        -->  quant::Conv(x, W - y) - z quant::Conv(1, W - y)

What a zero point is multiplied with is a constant: the sums of the filters, at the borders those of the taps inside.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.integer_sums import as_floats, by_channel, fits, floats, integer_sums, narrowest
from graphopt.passes.integers import BYTES, LARGEST_SUM, Weights, filter_reach, weight_axis, weights_of
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule
from graphopt.runtime.reference import evaluate_node

LARGEST_BYTE = 255


def _is_number(value: Value | None) -> bool:
    return value is None or (value.is_static and value.size == 1)


def _unfit(node: Node, x: Value, integers: np.ndarray | None) -> str | None:
    """Why the sums of bytes `x` with weights cannot be taken in int32."""
    if x.type is None or x.dtype not in BYTES or not x.is_static:
        return f"'{x.name}' are no bytes of a known shape"
    if integers is None or integers.ndim < 2 or not fits(integers, np.int16):
        return "the weights are not quantised by output channel"
    largest = LARGEST_BYTE * float(filter_reach(node, integers).max(initial=0.0))
    return None if largest < LARGEST_SUM else f"sums up to {largest:.0f} do not fit 32 bits"


def _centred_sums(build: Builder, node: Node, x: Value, weights: Value, zero: Value | None) -> Value:
    """Sums of (x - zero) times constant weights, in place of `node`; a matrix has its columns last."""
    assert weights.constant is not None
    is_product = "Conv" not in node.op_type
    op_type, place = ("MatMul", "a_zero_point") if is_product else ("Conv", "x_zero_point")
    kept = {} if is_product else dict(node.attributes)
    known = 0 if zero is None else zero.scalar()
    attributes = {**kept, place: int(known or 0)}
    sums = integer_sums(build, op_type, [x, weights], attributes, node.output.shape)
    if known is not None:
        return sums
    assert zero is not None and sums.producer is not None
    if is_product:
        each = weights.constant.astype(np.int32).sum(axis=-2, keepdims=(x.rank or 0) > 1)
    else:
        ones = np.ones((1, *x.static_shape[1:]), np.int8)
        (each,) = evaluate_node(sums.producer, [ones, weights.constant])
        if not np.ptp(each, axis=tuple(range(2, each.ndim))).any():
            each = each[(slice(None), slice(None), *(slice(0, 1),) * (each.ndim - 2))]
    origin = build.op("Cast", zero, to=DType.int32.onnx_code)
    shift = build.op("Mul", origin, build.const(np.asarray(each, np.int32), name=f"{weights.name}.sums"))
    return build.op("Sub", sums, shift)


class DynamicProduct(Rule):
    """MatMul(DQ(x, s, z), DQ(W, r)) --> Mul(Cast(quant::MatMul(x, W) - z sum(W)), s r)."""

    name = "lower-dynamic-product"
    pattern = Op(
        ("Conv", "Gemm", "MatMul"),
        Op("DequantizeLinear", Any("x"), Any("s"), Any("z", optional=True), shared=True),
        Op("DequantizeLinear", Const(), Const(), Const(optional=True), bind="weights", shared=True),
        Any("b", optional=True),
    )

    def check(self, match: Match) -> str | None:
        node, weights = match.root, self._weights(match)
        if (
            not _is_number(match["s"])
            or not _is_number(match.get("z"))
            or match["s"].dtype is not DType.float32
        ):
            return f"'{match['x'].name}' is not dequantised with one scale"
        if node.int("transA") or node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1:
            return "it is transposed, or alpha or beta is not one"
        bias = match.get("b")
        if node.op_type == "Conv" and bias is not None and bias.constant is None:
            return f"the bias '{bias.name}' is not constant"
        return _unfit(node, match["x"], None if weights is None else weights.integers)

    @staticmethod
    def _weights(match: Match) -> Weights | None:
        return weights_of(match.node("weights"), weight_axis(match.root))

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, weights, bias = match.root, self._weights(match), match.get("b")
        assert weights is not None
        integers = weights.integers.T if node.int("transB") else weights.integers
        constant = narrowest(build, integers, match.node("weights").output.name)
        sums = as_floats(build, _centred_sums(build, node, match["x"], constant, match.get("z")))
        each = floats(build, by_channel(node, weights.scale), f"{node.name}.scale")
        made = build.op("Mul", sums, build.op("Mul", match["s"], each))
        if bias is None:
            return made
        if node.op_type == "Conv" and bias.constant is not None:
            bias = floats(build, by_channel(node, bias.constant), bias.name)
        return build.op("Add", made, bias)


class IntegerOperator(Rule):
    """MatMulInteger(x, W, z, y) --> quant::MatMul(x, W - y) - z sum(W - y)."""

    name = "lower-integer-operator"
    pattern = Op(
        ("ConvInteger", "MatMulInteger"),
        Any("x"),
        Const("w"),
        Any("z", optional=True),
        Const("y", optional=True),
    )

    def check(self, match: Match) -> str | None:
        if not _is_number(match.get("z")):
            return f"'{match['x'].name}' has a zero point for each row"
        return _unfit(match.root, match["x"], self._integers(match))

    @staticmethod
    def _integers(match: Match) -> np.ndarray:
        integers, zero = match.data("w").astype(np.int64), match.get("y")
        if zero is None or zero.constant is None:
            return integers
        origin = zero.constant.astype(np.int64)
        if match.root.op_type == "ConvInteger":
            origin = origin.reshape(-1, *(1,) * (integers.ndim - 1))
        return integers - origin

    def rewrite(self, match: Match, build: Builder) -> Value:
        constant = narrowest(build, self._integers(match), match["w"].name)
        return _centred_sums(build, match.root, match["x"], constant, match.get("z"))


DYNAMIC: tuple[Rule, ...] = (DynamicProduct(), IntegerOperator())
