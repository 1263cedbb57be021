"""Scales behind sums of integers, and the requantisation that ends a layer; rules of `lower_integer`.

    Add(Mul(Cast(quant::MatMul(x, W)), c), DQ(b, c))  -->  Mul(Cast(quant::MatMul(x, W, b)), c)
    Relu(Mul(v, c))                                   -->  Mul(Relu(v), c)
    Q(Mul(v, c), s, z)                                -->  Q(Mul(v, c / s), 1, z)
    Q(Add(Mul(DQ(x, r, y), a), b), s, z)              -->  Q(Add(Mul(Cast(x), r a / s), (b - y r a) / s), 1, z)

where v are integers in float32. The multiplier c / s is rounded as ONNX Runtime's integer kernels round it, so that
their results are met to the bit. The last one, a batch normalisation on its own, rounds less often than it is
written: results differ where one lies next to a tie.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import QUANT, DType, Value
from graphopt.passes.integer_sums import as_floats, floats, integer_sums
from graphopt.passes.integers import LARGEST_SUM, dequantized, holds_integers, limits, same_scale, weights_of
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class IntegerBias(Rule):
    """Add(Mul(Cast(quant::MatMul(x, W)), c), DQ(b, c)) --> Mul(Cast(quant::MatMul(x, W, b)), c)."""

    name = "add-integer-bias"
    pattern = Op(
        "Add",
        Op("Mul", Op("Cast", Op("MatMul", Any("x"), Const("w"), domain=QUANT, bind="product")), Const("c")),
        Op("DequantizeLinear", Const("b"), Const(), Const(optional=True), bind="bias", shared=True),
    )

    def check(self, match: Match) -> str | None:
        bias, product = weights_of(match.node("bias"), -1), match.node("product")
        if bias is None:
            return "the bias has no scale for each channel"
        if match.root.output.shape != product.output.shape or bias.integers.ndim != 1:
            return "the bias is not one number per channel of the last axis"
        if bias.integers.size != product.output.static_shape[-1]:
            return "the bias is not one number per channel of the last axis"
        if not same_scale(bias.scale, match.data("c")):
            return "the bias has another scale"
        largest = _reach(match) + float(np.abs(bias.integers).max(initial=0))
        return None if largest < LARGEST_SUM else f"sums up to {largest:.0f} do not fit 32 bits"

    def rewrite(self, match: Match, build: Builder) -> Value:
        product, bias = match.node("product"), weights_of(match.node("bias"), -1)
        assert bias is not None
        numbers = build.const(bias.integers.astype(np.int32), name=match["b"].name)
        operands = [match["x"], match["w"], numbers]
        sums = integer_sums(build, "MatMul", operands, product.attributes, product.output.shape)
        return build.op("Mul", as_floats(build, sums), match["c"])


def _reach(match: Match) -> float:
    """The largest sum of a product with constant weights."""
    low, high = limits(match["x"].dtype) or (0.0, 0.0)
    zero = match.node("product").int("a_zero_point")
    by_column = np.abs(match.data("w").astype(np.int64)).sum(axis=-2)
    return max(abs(n) for n in (low, high, low - zero, high - zero)) * float(by_column.max(initial=0))


class ReluOfIntegers(Rule):
    """Relu(Mul(v, c)) --> Mul(Relu(v), c)."""

    name = "scale-behind-relu"
    pattern = Op("Relu", Op("Mul", Any("v"), Const("c")))

    def check(self, match: Match) -> str | None:
        if not holds_integers(match["v"]):
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
        if not holds_integers(match["v"]):
            return f"'{match['v'].name}' are no integers"
        if scale is None or match["s"].dtype is not DType.float32:
            return f"'{match['s'].name}' is not a single number in float32"
        return "it is requantised already" if scale == 1 else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        factor = np.asarray(match.data("c") / match["s"].scalar(), np.float32)
        scaled = match["v"]
        if (factor != 1).any():
            scaled = build.op("Mul", scaled, floats(build, factor, f"{match.root.name}.multiplier"))
        operands = (scaled, floats(build, np.ones(()), "one"), match.get("z"))
        return build.op("QuantizeLinear", *operands, **match.root.attributes)


class RequantizeAffine(Rule):
    """Q(Add(Mul(DQ(x, r, y), a), b), s, z) --> Q(Add(Mul(Cast(x), r a / s), (b - y r a) / s), 1, z)."""

    name = "requantize-affine"
    pattern = Op(
        "QuantizeLinear",
        Op("Add", Op("Mul", Any("x"), Const("a")), Const("b")),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        if dequantized(match["x"]) is None:
            return f"'{match['x'].name}' is not dequantised with one scale"
        if match["s"].scalar() is None or match["s"].dtype is not DType.float32:
            return f"'{match['s'].name}' is not a single number in float32"
        factor, shift = self._constants(match)
        if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
            return "its numbers overflow"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        quantised = dequantized(match["x"])
        assert quantised is not None
        name = match.root.name
        factor, shift = (
            floats(build, data, f"{name}.{part}")
            for data, part in zip(self._constants(match), ("multiplier", "shift"), strict=True)
        )
        total = build.op("Add", build.op("Mul", as_floats(build, quantised.x), factor), shift)
        operands = (total, floats(build, np.ones(()), "one"), match.get("z"))
        return build.op("QuantizeLinear", *operands, **match.root.attributes)

    @staticmethod
    def _constants(match: Match) -> tuple[np.ndarray, np.ndarray]:
        """What integers are multiplied with, and what is added."""
        quantised = dequantized(match["x"])
        assert quantised is not None
        scale = match["s"].scalar()
        factor = quantised.scale.reshape(()) * match.data("a").astype(np.float64)
        shift = match.data("b").astype(np.float64) - quantised.zero_point * factor
        with np.errstate(over="ignore"):
            return (factor / scale).astype(np.float32), (shift / scale).astype(np.float32)


REQUANTIZING: tuple[Rule, ...] = (IntegerBias(), ReluOfIntegers(), Requantize(), RequantizeAffine())
