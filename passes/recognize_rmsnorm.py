"""Root-mean-square normalisation spelt out of primitives, back to one operator.

    x / Sqrt(ReduceMean(x * x) + eps) * gamma   -->   RMSNormalization(x, gamma)

over trailing axes. Source: Zhang and Sennrich, "Root mean square layer normalization", 2019; ONNX,
RMSNormalization-23.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.passes.algebra import reduced_axes
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Either, Match, Op, Rule, Scalar

_SQUARE = Either(Op("Mul", Any("x"), Any("x")), Op("Pow", Any("x"), Scalar(2)))
_ROOT = Op(
    "Sqrt",
    Op(
        "Add",
        Op("ReduceMean", _SQUARE, Const("axes", optional=True), bind="mean"),
        Scalar(None, "epsilon"),
    ),
)
_NORMALISED = Either(
    Op("Div", Any("x"), _ROOT),
    Op("Mul", Any("x"), Op("Reciprocal", _ROOT)),
    Op("Mul", Any("x"), Op("Div", Scalar(1), _ROOT)),
)


class RMSNorm(Rule):
    """x / sqrt(mean(x^2) + eps) * gamma --> RMSNormalization(x, gamma)."""

    name = "recognize-rmsnorm"
    pattern = Op("Mul", _NORMALISED, Const("gamma"))

    def check(self, match: Match) -> str | None:
        rank, axes, shape = match["x"].rank, reduced_axes(match.node("mean")), match["x"].shape
        if rank is None or axes is None or shape is None or not match.node("mean").int("keepdims", 1):
            return "the mean's axes are not known, or dropped"
        if axes != tuple(range(rank - len(axes), rank)):
            return f"the axes {list(axes)} are not the last ones"
        if match.data("gamma").shape != shape[-len(axes) :]:
            return f"'{match['gamma'].name}' is not one number per normalised element"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        axes = reduced_axes(match.node("mean"))
        assert axes is not None
        epsilon = float(match.data("epsilon").reshape(-1)[0])
        return build.op("RMSNormalization", match["x"], match["gamma"], axis=axes[0], epsilon=epsilon)


RULES = (RMSNorm(),)


@dataclass(frozen=True)
class RecognizeRMSNorm(RulePass):
    """Find root-mean-square normalisation that is spelt out of primitives."""

    name: ClassVar[str] = "recognize-rmsnorm"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
