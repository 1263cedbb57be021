"""Factors in the place of quotients where floats become integers; for processors that divide slowly, all there are.

    Q(Mul(DQ(x, r, y), DQ(v, t, w)), s, z)  -->  Q(Mul(Mul(DQ(x, 1, y), DQ(v, 1, w)), r t / s), 1, z)
    Q(Swish(Mul(v, c)), s, z)               -->  Q(Mul(u, Sigmoid(Mul(u, s))), 1, z)        where u = Mul(v, c / s)
    Q(HardSwish(Mul(v, c)), s, z)           -->  the same with HardSigmoid

where v are integers in float32. Sums without a function behind them are `requantize`'s. The product of two bytes is
exact, and nothing is rounded more often than it was written; results differ where one lies next to a tie.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import DType, Value
from graphopt.passes.integer_sums import floats
from graphopt.passes.integers import EXACT, Dequantized, dequantized, holds_integers
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class ScaledProduct(Rule):
    """Q(Mul(DQ(x, r, y), DQ(v, t, w)), s, z) --> Q(Mul(Mul(DQ(x, 1, y), DQ(v, 1, w)), r t / s), 1, z)."""

    name = "scaled-product"
    pattern = Op(
        "QuantizeLinear",
        Op("Mul", Any("x"), Any("v")),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        found = [dequantized(match[name]) for name in ("x", "v")]
        if None in found:
            return f"'{match['xv'[found.index(None)]].name}' is not dequantised with one scale"
        if match["s"].scalar() is None or match["s"].dtype is not DType.float32:
            return f"'{match['s'].name}' is not a single number in float32"
        x, v = self._operands(match)
        if x.reach * v.reach > EXACT:
            return "products of so many bits are rounded"
        return None if np.isfinite(self._factor(match)) else "its numbers overflow"

    def rewrite(self, match: Match, build: Builder) -> Value:
        one = floats(build, np.ones(()), "one")
        integers = [
            build.op("DequantizeLinear", x, one, zero) for x, zero in map(_read, (match["x"], match["v"]))
        ]
        factor = floats(build, self._factor(match), f"{match.root.name}.multiplier")
        total = build.op("Mul", build.op("Mul", *integers), factor)
        return build.op("QuantizeLinear", total, one, match.get("z"), **match.root.attributes)

    @staticmethod
    def _operands(match: Match) -> tuple[Dequantized, Dequantized]:
        x, v = dequantized(match["x"]), dequantized(match["v"])
        assert x is not None and v is not None
        return x, v

    def _factor(self, match: Match) -> np.ndarray:
        x, v = (number.scale.reshape(()).astype(np.float64) for number in self._operands(match))
        with np.errstate(over="ignore"):
            return np.asarray(x * v / np.float64(match["s"].scalar()), np.float32)


def _read(value: Value) -> tuple[Value | None, Value | None]:
    """The integers that a dequantisation reads, and its zero point."""
    assert value.producer is not None
    return value.producer.input(0), value.producer.input(2)


GATES: dict[str, tuple[str, dict[str, typing.Any]]] = {
    "HardSwish": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "Swish": ("Sigmoid", {}),
}
"""What an activation multiplies its operand with: an operator of that operand."""


class ScaledGate(Rule):
    """Q(Swish(Mul(v, c)), s, z) --> Q(Mul(u, Sigmoid(Mul(u, s))), 1, z), HardSwish alike."""

    name = "scaled-gate"
    pattern = Op(
        "QuantizeLinear",
        Op(tuple(GATES), Op("Mul", Any("v"), Const("c")), bind="activation"),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        if not holds_integers(match["v"]):
            return f"'{match['v'].name}' are no integers"
        if match["s"].scalar() is None or match["s"].dtype is not DType.float32:
            return f"'{match['s'].name}' is not a single number in float32"
        return None if np.isfinite(self._factor(match)).all() else "its numbers overflow"

    def rewrite(self, match: Match, build: Builder) -> Value:
        name, activation = match.root.name, match.node("activation")
        gate, attributes = GATES[activation.op_type]
        scaled = build.op("Mul", match["v"], floats(build, self._factor(match), f"{name}.multiplier"))
        steepness = np.asarray(activation.float("alpha", 1.0) * np.float64(match["s"].scalar()))
        operand = build.op("Mul", scaled, floats(build, steepness, f"{name}.steepness"))
        total = build.op("Mul", scaled, build.op(gate, operand, **attributes))
        operands = (total, floats(build, np.ones(()), "one"), match.get("z"))
        return build.op("QuantizeLinear", *operands, **match.root.attributes)

    @staticmethod
    def _factor(match: Match) -> np.ndarray:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return np.asarray(match.data("c") / np.float32(match["s"].scalar()), np.float32)


RULES = (ScaledProduct(), ScaledGate())


@dataclass(frozen=True)
class MultiplyByScales(RulePass):
    """Multiply by a scale of quantisation, once, instead of dividing by it."""

    name: ClassVar[str] = "multiply-by-scales"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
