"""Activations spelt out of primitives, back to one operator.

    1 / (1 + Exp(-x))                                -->  Sigmoid(x)
    x * Sigmoid(x), x / (1 + Exp(-x))                -->  Swish(x)
    Clip(x + 3, 0, 6) / 6, Relu6(x + 3) * (1/6)      -->  HardSigmoid(x, 1/6, 1/2)
    Clip(a x + b, 0, 1)                              -->  HardSigmoid(x, a, b)
    x * HardSigmoid(x, 1/6, 1/2)                     -->  HardSwish(x)
    x * Clip(x + 3, 0, 6) / 6, ... * (1/6)           -->  HardSwish(x)
    Max(x, 0)                                        -->  Relu(x)
    Max(x, a x), PRelu(x, a)                         -->  LeakyRelu(x, a)        0 <= a < 1, one number
    Min(Max(x, a), b), Max(Min(x, b), a), Min(Relu(x), b) --> Clip(x, a, b)
    Log(1 + Exp(x))                                  -->  Softplus(x)
    x * Tanh(Softplus(x))                            -->  Mish(x)

Products match in any order of their factors. Gelu is in `recognize_gelu`. Sources: Howard et al., "Searching for
MobileNetV3", 2019 (HardSwish); Ramachandran et al., "Searching for activation functions", 2017 (Swish); Misra,
"Mish", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.passes import recognize_gelu
from graphopt.passes.algebra import ToOperator
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Either, Match, Op, Rule, Scalar

SIXTH = 1 / 6


class Swish(ToOperator):
    """x * Sigmoid(x) --> Swish(x)."""

    name, operator = "recognize-swish", "Swish"
    pattern = Op("Mul", Any("x"), Op("Sigmoid", Any("x")))


class SwishQuotient(ToOperator):
    """x / (1 + Exp(-x)) --> Swish(x)."""

    name, operator = "recognize-swish-quotient", "Swish"
    pattern = Op("Div", Any("x"), Op("Add", Op("Exp", Op("Neg", Any("x"))), Scalar(1)))


class SigmoidQuotient(ToOperator):
    """1 / (1 + Exp(-x)) --> Sigmoid(x)."""

    name, operator = "recognize-sigmoid-quotient", "Sigmoid"
    pattern = Op("Div", Scalar(1), Op("Add", Op("Exp", Op("Neg", Any("x"))), Scalar(1)))


class ReciprocalSigmoid(ToOperator):
    """Reciprocal(1 + Exp(-x)) --> Sigmoid(x)."""

    name, operator = "recognize-sigmoid-reciprocal", "Sigmoid"
    pattern = Op("Reciprocal", Op("Add", Op("Exp", Op("Neg", Any("x"))), Scalar(1)))


_RELU6_OF_X_PLUS_3 = Op("Clip", Op("Add", Any("x"), Scalar(3)), Scalar(0), Scalar(6))


class HardSigmoid(ToOperator):
    """Clip(x + 3, 0, 6) / 6 --> HardSigmoid(x, 1/6, 1/2)."""

    name, operator = "recognize-hard-sigmoid", "HardSigmoid"
    attributes: ClassVar[dict] = {"alpha": SIXTH, "beta": 0.5}
    pattern = Op("Div", _RELU6_OF_X_PLUS_3, Scalar(6))


class HardSigmoidByProduct(ToOperator):
    """Clip(x + 3, 0, 6) * (1/6) --> HardSigmoid(x, 1/6, 1/2)."""

    name, operator = "recognize-hard-sigmoid-product", "HardSigmoid"
    attributes: ClassVar[dict] = {"alpha": SIXTH, "beta": 0.5}
    pattern = Op("Mul", _RELU6_OF_X_PLUS_3, Scalar(SIXTH))


class HardSigmoidFromClip(ToOperator):
    """Clip(a x + b, 0, 1) --> HardSigmoid(x, a, b)."""

    name, operator = "recognize-hard-sigmoid-clip", "HardSigmoid"
    pattern = Op(
        "Clip",
        Op("Add", Op("Mul", Any("x"), Scalar(None, "a")), Scalar(None, "b")),
        Scalar(0),
        Scalar(1),
    )

    def rewrite(self, match: Match, build: Builder) -> Value:
        alpha, beta = (float(match[name].scalar() or 0) for name in "ab")
        return build.op("HardSigmoid", match["x"], alpha=alpha, beta=beta)


class HardSwish(ToOperator):
    """x * HardSigmoid(x, 1/6, 1/2) --> HardSwish(x)."""

    name, operator = "recognize-hard-swish", "HardSwish"
    pattern = Op("Mul", Any("x"), Op("HardSigmoid", Any("x"), bind="gate"))

    def check(self, match: Match) -> str | None:
        gate = match.node("gate")
        alpha, beta = gate.float("alpha", 0.2), gate.float("beta", 0.5)
        if abs(alpha - SIXTH) > 1e-6 or abs(beta - 0.5) > 1e-6:
            return f"the gate is HardSigmoid({alpha:g}, {beta:g}), not (1/6, 1/2)"
        return super().check(match)


class HardSwishQuotient(ToOperator):
    """x * Clip(x + 3, 0, 6) / 6 --> HardSwish(x)."""

    name, operator = "recognize-hard-swish-quotient", "HardSwish"
    pattern = Op("Div", Op("Mul", Any("x"), _RELU6_OF_X_PLUS_3), Scalar(6))


class HardSwishProduct(ToOperator):
    """x * Clip(x + 3, 0, 6) * (1/6) --> HardSwish(x)."""

    name, operator = "recognize-hard-swish-product", "HardSwish"
    pattern = Op("Mul", Op("Mul", Any("x"), _RELU6_OF_X_PLUS_3), Scalar(SIXTH))


class ReluFromMax(ToOperator):
    """Max(x, 0) --> Relu(x)."""

    name, operator = "recognize-relu", "Relu"
    pattern = Op("Max", Any("x"), Scalar(0, "zero"))

    def check(self, match: Match) -> str | None:
        return "zero is a value" if match["x"].is_constant else super().check(match)


class LeakyReluFromMax(Rule):
    """Max(x, a x) --> LeakyRelu(x, a) for 0 <= a < 1."""

    name = "recognize-leaky-relu"
    pattern = Op("Max", Any("x"), Op("Mul", Any("x"), Scalar(None, "a")))

    def check(self, match: Match) -> str | None:
        slope = float(match.data("a").reshape(-1)[0])
        if not 0 <= slope < 1:
            return f"the slope {slope:g} is not in [0, 1)"
        if match.root.output.shape != match["x"].shape or not match["x"].dtype.is_float:
            return "the constant changes the shape, or x is not a float"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("LeakyRelu", match["x"], alpha=float(match.data("a").reshape(-1)[0]))


class LeakyReluFromPRelu(Rule):
    """PRelu(x, a) --> LeakyRelu(x, a) when every slope is the same."""

    name = "recognize-leaky-relu-prelu"
    pattern = Op("PRelu", Any("x"), Any("slope"))

    def check(self, match: Match) -> str | None:
        slope = match["slope"].constant
        if slope is None or slope.size == 0 or (slope != slope.reshape(-1)[0]).any():
            return "the slopes differ, or are not constant"
        return None if match["x"].dtype.is_float else "x is not a float"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("LeakyRelu", match["x"], alpha=float(match.data("slope").reshape(-1)[0]))


class ClipFromMinMax(ToOperator):
    """Min(Max(x, a), b), Max(Min(x, b), a), Min(Relu(x), b) --> Clip(x, a, b) for a <= b."""

    name, operator = "recognize-clip", "Clip"
    pattern = Op(
        ("Min", "Max"),
        Either(
            Op(("Min", "Max"), Any("x"), Scalar(None, "inner"), bind="first"),
            Op("Relu", Any("x"), bind="first"),
        ),
        Scalar(None, "outer"),
    )

    @staticmethod
    def _bounds(match: Match) -> tuple[float, float]:
        inner, outer = (float(match[n].scalar() or 0) if match.has(n) else 0.0 for n in ("inner", "outer"))
        return (inner, outer) if match.root.op_type == "Min" else (outer, inner)

    def check(self, match: Match) -> str | None:
        first = match.node("first").op_type
        if match.root.op_type == ("Max" if first == "Relu" else first):
            return "both bound the same side"
        low, high = self._bounds(match)
        if not low <= high:
            return "the bounds do not leave a range"
        return super().check(match)

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Clip", match["x"], *(build.const(b, like=match["x"]) for b in self._bounds(match)))


class Softplus(ToOperator):
    """Log(1 + Exp(x)) --> Softplus(x)."""

    name, operator = "recognize-softplus", "Softplus"
    pattern = Op("Log", Op("Add", Op("Exp", Any("x")), Scalar(1)))


class Mish(ToOperator):
    """x * Tanh(Softplus(x)) --> Mish(x)."""

    name, operator = "recognize-mish", "Mish"
    pattern = Op("Mul", Any("x"), Op("Tanh", Op("Softplus", Any("x"))))


RULES = (
    SigmoidQuotient(),
    ReciprocalSigmoid(),
    Swish(),
    SwishQuotient(),
    HardSigmoid(),
    HardSigmoidByProduct(),
    HardSigmoidFromClip(),
    HardSwish(),
    HardSwishQuotient(),
    HardSwishProduct(),
    *recognize_gelu.RULES,
    ReluFromMax(),
    LeakyReluFromMax(),
    LeakyReluFromPRelu(),
    ClipFromMinMax(),
    Softplus(),
    Mish(),
)


@dataclass(frozen=True)
class RecognizeActivations(RulePass):
    """Find activations that are spelt out of primitives."""

    name: ClassVar[str] = "recognize-activations"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
