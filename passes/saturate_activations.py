"""Activations in front of a quantisation that saturates where they cut off.

    Q(Relu(x), s, z)         -->  Q(x, s, z)    where z is the least number of the type
    Q(Clip(x, a, b), s, z)   -->  Q(x, s, z)    where a becomes the least number or less, b the greatest or more

Rounding keeps the order of numbers, so that nothing but what is cut off anyway takes another value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.integers import limits
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class SaturateInstead(Rule):
    """Q(Relu(x), s, z) --> Q(x, s, z)."""

    name = "saturate-instead"
    pattern = Op(
        "QuantizeLinear",
        Op(("Relu", "Clip"), Any("x"), Const(optional=True), Const(optional=True), bind="activation"),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        scale, within = match["s"].scalar(), limits(match.root.output.dtype)
        zero = 0 if match.get("z") is None else match["z"].scalar()
        if within is None or match["s"].dtype is not DType.float32:
            return "it does not saturate to integers with a scale in float32"
        if scale is None or zero is None or not scale > 0:
            return "it has a scale or a zero point for each channel"
        bounds = _bounds(match.node("activation"))
        if bounds is None:
            return "a bound is not a single number"
        low, high = (np.rint(np.float32(bound) / np.float32(scale)) + float(zero) for bound in bounds)
        return None if low <= within[0] and high >= within[1] else "it cuts off more than saturation does"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("QuantizeLinear", match["x"], match["s"], match.get("z"), **match.root.attributes)


def _bounds(activation: Node) -> tuple[float, float] | None:
    """The least and the greatest result; None when they are not known."""
    if activation.op_type == "Relu":
        return 0.0, np.inf
    low, high = activation.input(1), activation.input(2)
    least = -np.inf if low is None else low.scalar()
    greatest = np.inf if high is None else high.scalar()
    return None if least is None or greatest is None else (float(least), float(greatest))


RULES = (SaturateInstead(),)


@dataclass(frozen=True)
class SaturateActivations(RulePass):
    """Leave to the saturation of a quantisation what an activation would cut off."""

    name: ClassVar[str] = "saturate-activations"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
