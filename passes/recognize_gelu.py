"""Gelu spelt out of primitives, back to one operator.

    0.5 * x * (1 + Erf(x / sqrt(2)))                       -->  Gelu(x)
    0.5 * x * (1 + Tanh(sqrt(2/pi) (x + 0.044715 x^3)))    -->  Gelu(x, approximate="tanh")

The half may be the last factor, the first one, or stand on the bracket; the cube may be a Pow, or a product with the
coefficient at either end. Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
"""

from __future__ import annotations

import math

from graphopt.ir import Value
from graphopt.passes.algebra import ToOperator
from graphopt.rewrite import Any, Builder, Either, Match, Op, Scalar

COEFFICIENT = 0.044715
ROOT = math.sqrt(2 / math.pi)

_X = Any("x")
_ERF = Op("Erf", Either(Op("Div", _X, Scalar(math.sqrt(2))), Op("Mul", _X, Scalar(math.sqrt(0.5)))))
_SQUARE = Either(Op("Mul", _X, _X), Op("Pow", _X, Scalar(2)))
_CUBIC = Either(
    Op("Mul", Either(Op("Pow", _X, Scalar(3)), Op("Mul", _SQUARE, _X)), Scalar(COEFFICIENT)),
    Op("Mul", _X, Op("Mul", _X, Op("Mul", _X, Scalar(COEFFICIENT)))),
)
_ONE_PLUS_SQUARE = Op(
    "Add",
    Either(Op("Mul", Op("Mul", _X, Scalar(COEFFICIENT)), _X), Op("Mul", _SQUARE, Scalar(COEFFICIENT))),
    Scalar(1),
)
_TANH = Op(
    "Tanh",
    Either(
        Op("Mul", Op("Add", _X, _CUBIC), Scalar(ROOT)),
        Op("Mul", Op("Mul", _X, Scalar(ROOT)), _ONE_PLUS_SQUARE),
        Op("Mul", _X, Op("Mul", _ONE_PLUS_SQUARE, Scalar(ROOT))),
    ),
    bind="tanh",
)
_GATE = Op("Add", Either(_ERF, _TANH), Scalar(1))
_HALF = Scalar(0.5)


class Gelu(ToOperator):
    """(x * gate) * 0.5 --> Gelu(x)."""

    name = "recognize-gelu"
    pattern = Op("Mul", Op("Mul", _X, _GATE), _HALF)

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Gelu", match["x"], approximate="tanh" if match.has("tanh") else "none")


class GeluHalfFirst(Gelu):
    """(0.5 * x) * gate --> Gelu(x)."""

    name = "recognize-gelu-half-first"
    pattern = Op("Mul", Op("Mul", _X, _HALF), _GATE)


class GeluHalfGate(Gelu):
    """x * (0.5 * gate) --> Gelu(x)."""

    name = "recognize-gelu-half-gate"
    pattern = Op("Mul", _X, Op("Mul", _GATE, _HALF))


RULES = (Gelu(), GeluHalfFirst(), GeluHalfGate())
