"""Layer normalisation spelt out of primitives, back to one operator.

    d = x - ReduceMean(x)
    d / Sqrt(ReduceMean(d * d) + eps) [* gamma] [+ beta]   -->   LayerNormalization(x, gamma, beta)

    d * (1 / Sqrt(...) * gamma)                            -->   LayerNormalization(x, gamma)      flax
    r = 1 / Sqrt(...) * gamma; x * r + (beta - mean * r)   -->   LayerNormalization(x, gamma, beta)      Keras

over trailing axes. The quotient may be a product with a reciprocal, the square a Pow, the mean of the square
may use its own copy of d. Source: Ba, Kiros and Hinton, "Layer normalization", 2016; ONNX, LayerNormalization-17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.passes.algebra import reduced_axes
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Either, Match, Op, Rule, Scalar

_MEAN = Op("ReduceMean", Any("x"), Const("axes", optional=True), bind="mean")
_CENTRED = Op("Sub", Any("x"), _MEAN, bind="centred", shared=True)
_CENTRED_AGAIN = Op(
    "Sub", Any("x"), Op("ReduceMean", Any("x"), Const("axes2", optional=True), bind="mean2"), shared=True
)
_SQUARE = Either(
    Op("Mul", _CENTRED_AGAIN, _CENTRED_AGAIN),
    Op("Pow", _CENTRED_AGAIN, Scalar(2)),
)
_VARIANCE = Op("ReduceMean", _SQUARE, Const("axes3", optional=True), bind="variance")
_DEVIATION = Op("Sqrt", Op("Add", _VARIANCE, Scalar(None, "epsilon")))


class LayerNorm(Rule):
    """(x - mean) / sqrt(var + eps) --> LayerNormalization(x, 1)."""

    name = "recognize-layernorm"
    pattern = Op("Div", _CENTRED, _DEVIATION)

    def check(self, match: Match) -> str | None:
        axes = [reduced_axes(match.node(name)) for name in ("mean", "mean2", "variance")]
        rank = match["x"].rank
        if rank is None or axes[0] is None or any(a != axes[0] for a in axes):
            return "the means are over different axes"
        if axes[0] != tuple(range(rank - len(axes[0]), rank)):
            return f"the axes {list(axes[0])} are not the last ones"
        if any(not match.node(name).int("keepdims", 1) for name in ("mean", "mean2", "variance")):
            return "a mean drops its axes"
        shape = match["x"].shape
        if shape is None or any(isinstance(shape[a], str) for a in axes[0]):
            return "the normalised dimensions are not known"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        x = match["x"]
        axes = reduced_axes(match.node("mean"))
        assert axes is not None and x.shape is not None
        ones = np.ones(_normalised_shape(match))
        epsilon = float(match.data("epsilon").reshape(-1)[0])
        scale = build.const(ones, like=x, name="scale")
        return build.op("LayerNormalization", x, scale, axis=axes[0], epsilon=epsilon)


class LayerNormByReciprocal(LayerNorm):
    """(x - mean) * Reciprocal(sqrt(var + eps)) --> LayerNormalization(x, 1)."""

    name = "recognize-layernorm-reciprocal"
    pattern = Op("Mul", _CENTRED, Op("Reciprocal", _DEVIATION))


_SCALED_RECIPROCAL = Op("Mul", Op("Reciprocal", _DEVIATION), Const("gamma"), bind="factor")


class LayerNormByScaledReciprocal(LayerNorm):
    """(x - mean) * (Reciprocal(sqrt(var + eps)) * gamma) --> LayerNormalization(x, gamma)."""

    name = "recognize-layernorm-scaled"
    pattern = Op("Mul", _CENTRED, _SCALED_RECIPROCAL)
    vectors: ClassVar[tuple[str, ...]] = ("gamma",)

    def check(self, match: Match) -> str | None:
        if reason := super().check(match):
            return reason
        wanted = _normalised_shape(match)
        for name in self.vectors:
            if _stripped(match.data(name).shape, len(wanted)) != wanted:
                return f"'{match[name].name}' is not one number per normalised element"
        return None if match.root.output.shape == match["x"].shape else "a constant changes the shape"

    def rewrite(self, match: Match, build: Builder) -> Value:
        x, wanted = match["x"], _normalised_shape(match)
        vectors = [
            build.const(match.data(n).reshape(wanted), like=x, name=match[n].name) for n in self.vectors
        ]
        axis, epsilon = (x.rank or 0) - len(wanted), float(match.data("epsilon").reshape(-1)[0])
        return build.op("LayerNormalization", x, *vectors, axis=axis, epsilon=epsilon)


class LayerNormAffine(LayerNormByScaledReciprocal):
    """x * r + (beta - mean * r), r = Reciprocal(sqrt(var + eps)) * gamma --> LayerNormalization(x, gamma, beta)."""

    name = "recognize-layernorm-affine"
    pattern = Op(
        "Add",
        Op("Mul", Any("x"), _SCALED_RECIPROCAL),
        Op("Sub", Const("beta"), Op("Mul", _MEAN, _SCALED_RECIPROCAL)),
    )
    vectors: ClassVar[tuple[str, ...]] = ("gamma", "beta")


def _normalised_shape(match: Match) -> tuple[int, ...]:
    axes, shape = reduced_axes(match.node("mean")), match["x"].shape
    assert axes is not None and shape is not None
    return tuple(int(shape[axis]) for axis in axes)


def _stripped(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The last `rank` dimensions; all of them when one before is not 1."""
    lead = max(len(shape) - rank, 0)
    return shape[lead:] if all(d == 1 for d in shape[:lead]) else shape


class ScaleLayerNorm(Rule):
    """LayerNormalization(x, s) * gamma --> LayerNormalization(x, s gamma)."""

    name = "layernorm-scale"
    pattern = Op("Mul", Op("LayerNormalization", Any("x"), Const("s"), bind="norm"), Const("gamma"))

    def check(self, match: Match) -> str | None:
        return _fits(match, "gamma")

    def rewrite(self, match: Match, build: Builder) -> Value:
        norm = match.node("norm")
        scale = match.data("s").astype(np.float64) * match.data("gamma").reshape(match.data("s").shape)
        return build.op(
            "LayerNormalization",
            match["x"],
            build.const(scale, like=match["s"], name=match["gamma"].name),
            **norm.attributes,
        )


class ShiftLayerNorm(Rule):
    """LayerNormalization(x, s) + beta --> LayerNormalization(x, s, beta)."""

    name = "layernorm-shift"
    pattern = Op("Add", Op("LayerNormalization", Any("x"), Const("s"), bind="norm"), Const("beta"))

    def check(self, match: Match) -> str | None:
        return _fits(match, "beta")

    def rewrite(self, match: Match, build: Builder) -> Value:
        shift = match.data("beta").reshape(match.data("s").shape)
        return build.op(
            "LayerNormalization",
            match["x"],
            match["s"],
            build.const(shift, like=match["s"], name=match["beta"].name),
            **match.node("norm").attributes,
        )


def _fits(match: Match, name: str) -> str | None:
    """The constant is one number per normalised element, leading unit axes aside."""
    shape, wanted = match.data(name).shape, match.data("s").shape
    if _stripped(shape, len(wanted)) != wanted:
        return f"'{match[name].name}' has the shape {list(shape)}, not {list(wanted)}"
    if match.root.output.shape != match["x"].shape:
        return "the constant changes the shape"
    return None


RULES = (
    LayerNorm(),
    LayerNormByReciprocal(),
    LayerNormByScaledReciprocal(),
    LayerNormAffine(),
    ScaleLayerNorm(),
    ShiftLayerNorm(),
)


@dataclass(frozen=True)
class RecognizeLayerNorm(RulePass):
    """Find layer normalisation that is spelt out of primitives."""

    name: ClassVar[str] = "recognize-layernorm"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
