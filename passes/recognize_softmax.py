"""Softmax spelt out of primitives, back to one operator.

    e = Exp(x - ReduceMax(x)); e / ReduceSum(e)   -->   Softmax(x)
    e = Exp(x);                e / ReduceSum(e)   -->   Softmax(x)      without the overflow
    Log(Softmax(x))                               -->   LogSoftmax(x)

over one axis. Without the maximum, inputs above 88 made the original infinite; Softmax is right there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.passes.algebra import reduced_axes
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

_SHIFTED = Op(
    "Exp",
    Op("Sub", Any("x"), Op("ReduceMax", Any("x"), Const("max_axes", optional=True), bind="max")),
    bind="exp",
    shared=True,
)
_PLAIN = Op("Exp", Any("x"), bind="exp", shared=True)


class Softmax(Rule):
    """Exp(x - max) / ReduceSum(Exp(x - max)) --> Softmax(x)."""

    name = "recognize-softmax"
    pattern = Op("Div", _SHIFTED, Op("ReduceSum", _SHIFTED, Const("axes", optional=True), bind="sum"))

    def check(self, match: Match) -> str | None:
        axes = reduced_axes(match.node("sum"))
        if axes is None or len(axes) != 1:
            return "the sum is not over one axis"
        if not match.node("sum").int("keepdims", 1):
            return "the sum drops its axis"
        if "max" in match.named and reduced_axes(match.node("max")) != axes:
            return "the maximum is over other axes"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        axes = reduced_axes(match.node("sum"))
        assert axes is not None
        return build.op("Softmax", match["x"], axis=axes[0])


class PlainSoftmax(Softmax):
    """Exp(x) / ReduceSum(Exp(x)) --> Softmax(x)."""

    name = "recognize-softmax-plain"
    pattern = Op("Div", _PLAIN, Op("ReduceSum", _PLAIN, Const("axes", optional=True), bind="sum"))


class LogSoftmax(Rule):
    """Log(Softmax(x)) --> LogSoftmax(x)."""

    name = "recognize-log-softmax"
    pattern = Op("Log", Op("Softmax", Any("x"), bind="softmax"))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("LogSoftmax", match["x"], axis=match.node("softmax").int("axis", -1))


RULES = (Softmax(), PlainSoftmax(), LogSoftmax())


@dataclass(frozen=True)
class RecognizeSoftmax(RulePass):
    """Find softmax that is spelt out of primitives."""

    name: ClassVar[str] = "recognize-softmax"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
