"""Activations spelt out of primitives, back to one operator.

    x * Sigmoid(x)                                   -->  Swish(x)
    1 / (1 + Exp(-x))                                -->  Sigmoid(x)
    Clip(x + 3, 0, 6) / 6, Relu6(x + 3) * (1/6)      -->  HardSigmoid(x, 1/6, 1/2)
    x * HardSigmoid(x, 1/6, 1/2)                     -->  HardSwish(x)
    x * Clip(x + 3, 0, 6) / 6                        -->  HardSwish(x)
    0.5 * x * (1 + Erf(x / sqrt(2)))                 -->  Gelu(x)
    0.5 * x * (1 + Tanh(sqrt(2/pi) (x + 0.044715 x^3))) --> Gelu(x, approximate="tanh")
    Max(x, 0)                                        -->  Relu(x)
    Max(x, a x), PRelu(x, a)                         -->  LeakyRelu(x, a)        0 <= a < 1, one number
    Min(Max(x, a), b), Max(Min(x, b), a)             -->  Clip(x, a, b)
    Log(1 + Exp(x))                                  -->  Softplus(x)
    x * Tanh(Softplus(x))                            -->  Mish(x)

Products match in any order of their factors. Gelu: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Either, Match, Op, Rule, Scalar

SIXTH = 1 / 6


class _ToOperator(Rule):
    """Replaces the match by one operator on x; the result must have x's shape."""

    operator: ClassVar[str]
    attributes: ClassVar[dict] = {}

    def check(self, match: Match) -> str | None:
        x = match["x"]
        if x.type is None or not x.dtype.is_float:
            return f"'{x.name}' is not a float"
        if match.root.output.shape != x.shape:
            return "a constant changes the shape"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op(self.operator, match["x"], **self.attributes)


class Swish(_ToOperator):
    """x * Sigmoid(x) --> Swish(x)."""

    name, operator = "recognize-swish", "Swish"
    pattern = Op("Mul", Any("x"), Op("Sigmoid", Any("x")))


class SigmoidQuotient(_ToOperator):
    """1 / (1 + Exp(-x)) --> Sigmoid(x)."""

    name, operator = "recognize-sigmoid-quotient", "Sigmoid"
    pattern = Op("Div", Scalar(1), Op("Add", Op("Exp", Op("Neg", Any("x"))), Scalar(1)))


class ReciprocalSigmoid(_ToOperator):
    """Reciprocal(1 + Exp(-x)) --> Sigmoid(x)."""

    name, operator = "recognize-sigmoid-reciprocal", "Sigmoid"
    pattern = Op("Reciprocal", Op("Add", Op("Exp", Op("Neg", Any("x"))), Scalar(1)))


_RELU6_OF_X_PLUS_3 = Op("Clip", Op("Add", Any("x"), Scalar(3)), Scalar(0), Scalar(6))


class HardSigmoid(_ToOperator):
    """Clip(x + 3, 0, 6) / 6 --> HardSigmoid(x, 1/6, 1/2)."""

    name, operator = "recognize-hard-sigmoid", "HardSigmoid"
    attributes: ClassVar[dict] = {"alpha": SIXTH, "beta": 0.5}
    pattern = Op("Div", _RELU6_OF_X_PLUS_3, Scalar(6))


class HardSigmoidByProduct(_ToOperator):
    """Clip(x + 3, 0, 6) * (1/6) --> HardSigmoid(x, 1/6, 1/2)."""

    name, operator = "recognize-hard-sigmoid-product", "HardSigmoid"
    attributes: ClassVar[dict] = {"alpha": SIXTH, "beta": 0.5}
    pattern = Op("Mul", _RELU6_OF_X_PLUS_3, Scalar(SIXTH))


class HardSwish(_ToOperator):
    """x * HardSigmoid(x, 1/6, 1/2) --> HardSwish(x)."""

    name, operator = "recognize-hard-swish", "HardSwish"
    pattern = Op("Mul", Any("x"), Op("HardSigmoid", Any("x"), bind="gate"))

    def check(self, match: Match) -> str | None:
        gate = match.node("gate")
        alpha, beta = gate.float("alpha", 0.2), gate.float("beta", 0.5)
        if abs(alpha - SIXTH) > 1e-6 or abs(beta - 0.5) > 1e-6:
            return f"the gate is HardSigmoid({alpha:g}, {beta:g}), not (1/6, 1/2)"
        return super().check(match)


class HardSwishQuotient(_ToOperator):
    """x * Clip(x + 3, 0, 6) / 6 --> HardSwish(x)."""

    name, operator = "recognize-hard-swish-quotient", "HardSwish"
    pattern = Op("Div", Op("Mul", Any("x"), _RELU6_OF_X_PLUS_3), Scalar(6))


_ERF = Op(
    "Add",
    Op("Erf", Either(Op("Div", Any("x"), Scalar(math.sqrt(2))), Op("Mul", Any("x"), Scalar(math.sqrt(0.5))))),
    Scalar(1),
)
_CUBE = Either(
    Op("Pow", Any("x"), Scalar(3)),
    Op("Mul", Op("Mul", Any("x"), Any("x")), Any("x")),
)
_TANH = Op(
    "Add",
    Op(
        "Tanh",
        Op(
            "Mul",
            Op("Add", Any("x"), Op("Mul", _CUBE, Scalar(0.044715))),
            Scalar(math.sqrt(2 / math.pi)),
        ),
    ),
    Scalar(1),
)


class _Gelu(_ToOperator):
    """Half of x times one plus the gate, the half standing anywhere."""

    operator = "Gelu"


def _gelu_patterns(gate: Op) -> tuple[Op, ...]:
    half, x = Scalar(0.5), Any("x")
    return (
        Op("Mul", Op("Mul", x, gate), half),
        Op("Mul", Op("Mul", x, half), gate),
        Op("Mul", x, Op("Mul", gate, half)),
        Op("Mul", Op("Div", x, Scalar(2)), gate),
        Op("Div", Op("Mul", x, gate), Scalar(2)),
    )


class _GeluOf(_Gelu):
    def __init__(self, number: int, kind: str, pattern: Op) -> None:
        self.name = f"recognize-gelu-{kind}-{number}"  # type: ignore[misc]
        self.pattern = pattern
        self.attributes = {"approximate": "none" if kind == "erf" else "tanh"}  # type: ignore[misc]


class ReluFromMax(_ToOperator):
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


class ClipFromMinMax(Rule):
    """Min(Max(x, a), b) and Max(Min(x, b), a) --> Clip(x, a, b) for a <= b."""

    name = "recognize-clip"
    pattern = Op(
        ("Min", "Max"),
        Op(("Min", "Max"), Any("x"), Scalar(None, "inner"), bind="first"),
        Scalar(None, "outer"),
    )

    def _bounds(self, match: Match) -> tuple[Value, Value]:
        inner, outer = match["inner"], match["outer"]
        return (inner, outer) if match.root.op_type == "Min" else (outer, inner)

    def check(self, match: Match) -> str | None:
        if match.root.op_type == match.node("first").op_type:
            return "both bound the same side"
        low, high = self._bounds(match)
        if float(low.constant.reshape(-1)[0]) > float(high.constant.reshape(-1)[0]):  # type: ignore[union-attr]
            return "the bounds do not leave a range"
        return None if match.root.output.shape == match["x"].shape else "a constant changes the shape"

    def rewrite(self, match: Match, build: Builder) -> Value:
        low, high = (build.const(v.constant.reshape(()), like=match["x"]) for v in self._bounds(match))  # type: ignore[union-attr]
        return build.op("Clip", match["x"], low, high)


class Softplus(_ToOperator):
    """Log(1 + Exp(x)) --> Softplus(x)."""

    name, operator = "recognize-softplus", "Softplus"
    pattern = Op("Log", Op("Add", Op("Exp", Any("x")), Scalar(1)))


class Mish(_ToOperator):
    """x * Tanh(Softplus(x)) --> Mish(x)."""

    name, operator = "recognize-mish", "Mish"
    pattern = Op("Mul", Any("x"), Op("Tanh", Op("Softplus", Any("x"))))


RULES = (
    SigmoidQuotient(),
    ReciprocalSigmoid(),
    Swish(),
    HardSigmoid(),
    HardSigmoidByProduct(),
    HardSwish(),
    HardSwishQuotient(),
    *(_GeluOf(i, "erf", p) for i, p in enumerate(_gelu_patterns(_ERF), 1)),
    *(_GeluOf(i, "tanh", p) for i, p in enumerate(_gelu_patterns(_TANH), 1)),
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
