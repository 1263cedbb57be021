"""Canonical forms of arithmetic.

    Cast(Cast(x, wide), narrow)                                            -->  Cast(x, narrow)
    Relu(f(x)) for f that is never negative                                -->  f(x)
    Clip(Clip(x, a, b), c, d), Clip(Relu(x), c, d)                         -->  Clip(x, ...)
    Sum(x, y), Max(x), Concat(x), Sum(x)                                   -->  Add(x, y), x, x, x
    Pow(x, 2), Pow(x, 0.5)                                                 -->  Mul(x, x), Sqrt(x)
    x * 1, x / 1, x + 0, x - 0, x ** 1, max(x, -inf), min(x, inf)          -->  x
    x / 2^k                                                                -->  x * 2^-k

Adding a positive zero changes -0 to +0; ONNX gives no meaning to the sign of zero, so Add(x, 0) goes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.passes.algebra import same_type
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule, Scalar

LARGEST_EXPONENT = 10
"""Powers of two up to 2^10 have a reciprocal in every float type."""

VARIADIC = ("Sum", "Max", "Min", "Mean", "Concat")


class CastChain(Rule):
    """Cast(Cast(x, wide), narrow) --> Cast(x, narrow) when the first one loses nothing."""

    name = "cast-chain"
    pattern = Op("Cast", Op("Cast", Any("x"), bind="inner", shared=True), bind="outer")

    def check(self, match: Match) -> str | None:
        source, middle = match["x"].dtype, match.node("inner").output.dtype
        lossless = {
            ("float16", "float32"),
            ("bfloat16", "float32"),
            ("float32", "float64"),
            ("float16", "float64"),
            ("int8", "int32"),
            ("uint8", "int32"),
            ("int32", "int64"),
            ("int8", "int64"),
            ("uint8", "int64"),
            ("bool", "int32"),
            ("bool", "int64"),
            ("bool", "float32"),
        }
        if source is not middle and (source.label, middle.label) not in lossless:
            return f"{middle} does not hold every {source}"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Cast", match["x"], **match.node("outer").attributes)


class ReluOfReluLike(Rule):
    """Relu(f(x)) --> f(x) for f that is never negative."""

    name = "relu-of-relu"
    pattern = Op(
        "Relu",
        Op(
            "Relu Sigmoid HardSigmoid Softplus Softmax Exp Abs Sqrt Clip".split(),
            Any("x"),
            Const("low", optional=True),
            Any(optional=True),
            bind="inner",
            shared=True,
        ),
    )

    def check(self, match: Match) -> str | None:
        if match.node("inner").op_type == "Clip":
            low = match.get("low")
            if low is None or low.scalar() is None or low.scalar() < 0:  # type: ignore[operator]
                return "Clip may return a negative number"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match.node("inner").output


class ClipOfClip(Rule):
    """Clip(Clip(x, a, b), c, d) --> Clip(x, max(a, c), min(b, d)); a Relu inside is Clip(x, 0)."""

    name = "clip-of-clip"
    pattern = Op(
        "Clip",
        Op(("Clip", "Relu"), Any("x"), Const("a", optional=True), Const("b", optional=True), bind="inner"),
        Const("c", optional=True),
        Const("d", optional=True),
    )

    def check(self, match: Match) -> str | None:
        low, high = self._bounds(match)
        if low is not None and high is not None and low > high:
            return "the ranges do not meet"
        return None

    @staticmethod
    def _bounds(match: Match) -> tuple[float | None, float | None]:
        lows = [match.data(n).item() for n in "ac" if match.get(n) is not None]
        highs = [match.data(n).item() for n in "bd" if match.get(n) is not None]
        if match.node("inner").op_type == "Relu":
            lows.append(0.0)
        return max(lows, default=None), min(highs, default=None)

    def rewrite(self, match: Match, build: Builder) -> Value:
        x = match["x"]
        bounds = [None if b is None else build.const(np.asarray(b), like=x) for b in self._bounds(match)]
        return build.op("Clip", x, *bounds)


class SingleOperand(Rule):
    """Sum(x), Max(x), Concat(x) --> x."""

    name = "single-operand"
    pattern = Op(VARIADIC, Any("x"))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class SumToAdd(Rule):
    """Sum(x, y) --> Add(x, y); three operands and more fold from the left."""

    name = "sum-to-add"
    pattern = Op("Sum", Any("x"), Any("y"), more=True)

    def rewrite(self, match: Match, build: Builder) -> Value:
        first, *others = [v for v in match.root.inputs if v is not None]
        for other in others:
            first = build.op("Add", first, other)
        return first


class PowByTwo(Rule):
    """Pow(x, 2) --> Mul(x, x)."""

    name = "pow-2"
    pattern = Op("Pow", Any("x"), Scalar(2, "p"))

    def check(self, match: Match) -> str | None:
        return same_type(match, match["x"])

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Mul", match["x"], match["x"])


class PowByHalf(Rule):
    """Pow(x, 0.5) --> Sqrt(x)."""

    name = "pow-half"
    pattern = Op("Pow", Any("x"), Scalar(0.5, "p"))

    def check(self, match: Match) -> str | None:
        return same_type(match, match["x"]) if match["x"].dtype.is_float else "the base is not a float"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Sqrt", match["x"])


class Neutral(Rule):
    """x * 1, x / 1, x + 0, x - 0, x ** 1, max(x, -inf), min(x, inf) --> x."""

    name = "neutral-operand"
    pattern = Op("Mul Div Add Sub Pow Max Min".split(), Any("x"), Const("c"))
    numbers: ClassVar[dict[str, float]] = {"Add": 0, "Sub": 0, "Max": -np.inf, "Min": np.inf}

    def check(self, match: Match) -> str | None:
        neutral = self.numbers.get(match.root.op_type, 1)
        data = match.data("c")
        if data.size == 0 or not (data == neutral).all():
            return f"'{match['c'].name}' is not {neutral:g} throughout"
        return same_type(match, match["x"])

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class DivByPowerOfTwo(Rule):
    """Div(x, 2^k) --> Mul(x, 2^-k): exactly the same number."""

    name = "div-by-power-of-two"
    pattern = Op("Div", Any("x"), Scalar(None, "divisor"))

    def check(self, match: Match) -> str | None:
        divisor = match["divisor"]
        if not divisor.dtype.is_float:
            return "integer division rounds"
        mantissa, exponent = math.frexp(float(divisor.scalar() or 0))
        if abs(mantissa) != 0.5 or not -LARGEST_EXPONENT <= exponent <= LARGEST_EXPONENT:
            return f"{divisor.scalar():g} is not a power of two, or out of bounds"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op(
            "Mul", match["x"], build.const(1 / match.data("divisor").astype(np.float64), like=match["x"])
        )


RULES = (
    CastChain(),
    ReluOfReluLike(),
    ClipOfClip(),
    SingleOperand(),
    SumToAdd(),
    PowByTwo(),
    PowByHalf(),
    Neutral(),
    DivByPowerOfTwo(),
)
