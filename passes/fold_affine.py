"""Scales and shifts by constants into the neighbouring convolution or product.

    Mul(Conv(x, W, b), s)       -->  Conv(x, s W, s b)     Div likewise; also ConvTranspose, Gemm, MatMul
    Add(Conv(x, W, b), t)       -->  Conv(x, W, b + t)     Sub likewise; also ConvTranspose, Gemm, MatMul
    Conv(Mul(x, s), W, b)       -->  Conv(x, W s, b)       s per input channel; Div likewise; also the others
    Conv(Add(x, t), W, b)       -->  Conv(x, W, b + W t)   without pads; Sub likewise; also Gemm, MatMul
    Mul(Mul(x, s), r)           -->  Mul(x, s r)           Div of Mul, Add of Sub, ... likewise

The arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.algebra import (
    bias_of,
    channel_axis,
    input_axis,
    input_channels,
    output_channels,
    per_channel,
    rebuilt,
    scale_inputs,
    scale_outputs,
    shift_inputs,
    takes_bias,
)
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

ANCHORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _output_factors(match: Match, anchor: Node) -> np.ndarray | None:
    """The constant `c` as one number per output channel."""
    channels, rank = output_channels(anchor), anchor.output.rank
    if channels is None or rank is None:
        return None
    return per_channel(match.data("c"), rank, channels, channel_axis(anchor))


class ScaleAfter(Rule):
    """Mul(Conv(x, W, b), s) --> Conv(x, s W, s b)."""

    name = "fold-scale-into-producer"
    pattern = Op(
        ("Mul", "Div"),
        Op(ANCHORS, Any("x"), Const("w"), Const("b", optional=True), bind="anchor"),
        Const("c"),
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        factors = _output_factors(match, anchor)
        if factors is None:
            return f"'{match['c'].name}' is not one number per output channel"
        if match.root.op_type == "Div" and (factors == 0).any():
            return f"'{match['c'].name}' has zeros"
        if not match["w"].dtype.is_float:
            return "the weights are not floats"
        return None if bias_of(anchor, factors.size) is not None else "the bias is not per channel"

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        factors, bias = _output_factors(match, anchor), None
        assert factors is not None
        if match.root.op_type == "Div":
            factors = 1.0 / factors
        if match.get("b") is not None:
            bias = bias_of(anchor, factors.size)
            assert bias is not None
            bias = bias * factors
        weights = scale_outputs(anchor, match.data("w"), factors)
        return rebuilt(build, anchor, match["x"], weights=weights, bias=bias)


class ShiftAfter(Rule):
    """Add(Conv(x, W, b), t) --> Conv(x, W, b + t)."""

    name = "fold-shift-into-producer"
    pattern = Op(
        ("Add", "Sub"),
        Op(ANCHORS, Any("x"), Const("w"), Const("b", optional=True), bind="anchor"),
        Const("c"),
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        shift = _output_factors(match, anchor)
        if shift is None:
            return f"'{match['c'].name}' is not one number per output channel"
        if not takes_bias(anchor) or not match["w"].dtype.is_float:
            return f"'{anchor.name}' has no place for a bias"
        return None if bias_of(anchor, shift.size) is not None else "the bias is not per channel"

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        shift = _output_factors(match, anchor)
        assert shift is not None
        bias = bias_of(anchor, shift.size)
        assert bias is not None
        total = bias - shift if match.root.op_type == "Sub" else bias + shift
        return rebuilt(build, anchor, match["x"], weights=None, bias=total)


def _input_factors(match: Match, anchor: Node) -> np.ndarray | None:
    """The constant `c` as one number per input channel."""
    rank, channels = match["x"].rank, input_channels(anchor)
    if rank is None or channels is None:
        return None
    return per_channel(match.data("c"), rank, channels, input_axis(anchor))


class ScaleBefore(Rule):
    """Conv(Mul(x, s), W, b) --> Conv(x, W s, b)."""

    name = "fold-scale-into-consumer"
    pattern = Op(
        ANCHORS,
        Op(("Mul", "Div"), Any("x"), Const("c"), bind="affine"),
        Const("w"),
        Any("b", optional=True),
        bind="anchor",
    )

    def check(self, match: Match) -> str | None:
        factors = _input_factors(match, match.node("anchor"))
        if factors is None:
            return f"'{match['c'].name}' is not one number per input channel"
        if match.node("affine").op_type == "Div" and (factors == 0).any():
            return f"'{match['c'].name}' has zeros"
        return None if match["w"].dtype.is_float else "the weights are not floats"

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor, w = match.node("anchor"), match["w"]
        factors = _input_factors(match, anchor)
        assert factors is not None
        if match.node("affine").op_type == "Div":
            factors = 1.0 / factors
        weights = build.const(scale_inputs(anchor, match.data("w"), factors), like=w, name=w.name)
        operands = [match["x"], weights, *anchor.inputs[2:]]
        return build.op(anchor.op_type, *operands, **anchor.attributes)


class ShiftBefore(Rule):
    """Conv(Add(x, t), W, b) --> Conv(x, W, b + W t), where no pad dilutes the shift."""

    name = "fold-shift-into-consumer"
    pattern = Op(
        ANCHORS,
        Op(("Add", "Sub"), Any("x"), Const("c"), bind="affine"),
        Const("w"),
        Const("b", optional=True),
        bind="anchor",
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        shift, channels = _input_factors(match, anchor), output_channels(anchor)
        if shift is None:
            return f"'{match['c'].name}' is not one number per input channel"
        if shift_inputs(anchor, match.data("w"), shift) is None:
            return f"'{anchor.name}' pads its input with zeros"
        if not takes_bias(anchor) or not match["w"].dtype.is_float:
            return f"'{anchor.name}' has no place for a bias"
        if channels is None or bias_of(anchor, channels) is None:
            return "the bias is not per channel"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor, weights = match.node("anchor"), match.data("w")
        shift = _input_factors(match, anchor)
        assert shift is not None
        if match.node("affine").op_type == "Sub":
            shift = -shift
        moved, bias = shift_inputs(anchor, weights, shift), bias_of(anchor, output_channels(anchor) or 0)
        assert moved is not None and bias is not None
        return rebuilt(build, anchor, match["x"], weights=None, bias=bias + moved)


class AffineChain(Rule):
    """Mul(Div(x, s), r) --> Mul(x, r / s); Sub(Add(x, s), r) --> Add(x, s - r)."""

    name = "affine-chain"
    pattern = Op(
        ("Mul", "Div", "Add", "Sub"),
        Op(("Mul", "Div", "Add", "Sub"), Any("x"), Const("s"), bind="inner"),
        Const("r"),
    )

    def check(self, match: Match) -> str | None:
        if self._scales(match.root) != self._scales(match.node("inner")):
            return "one scales, the other shifts"
        if not match["x"].dtype.is_float:
            return "integers may overflow in another order"
        s, r = match.data("s"), match.data("r")
        try:
            shape = np.broadcast_shapes(s.shape, r.shape)
        except ValueError:
            return "the constants do not broadcast to one shape"
        if np.prod(shape) > max(s.size, r.size):
            return "the product of the constants is larger than either"
        divides = (match.node("inner").op_type == "Div" and not s.all()) or (
            match.root.op_type == "Div" and not r.all()
        )
        return "a divisor has zeros" if divides else None

    @staticmethod
    def _scales(node: Node) -> bool:
        return node.op_type in ("Mul", "Div")

    def rewrite(self, match: Match, build: Builder) -> Value:
        s, r = (match.data(n).astype(np.float64) for n in "sr")
        inner, outer = match.node("inner").op_type, match.root.op_type
        if self._scales(match.root):
            both = (1 / s if inner == "Div" else s) * (1 / r if outer == "Div" else r)
        else:
            both = (-s if inner == "Sub" else s) + (-r if outer == "Sub" else r)
        constant = build.const(both, like=match["x"], name=match["s"].name)
        return build.op("Mul" if self._scales(match.root) else "Add", match["x"], constant)


RULES = (ScaleAfter(), ShiftAfter(), ScaleBefore(), ShiftBefore(), AffineChain())


@dataclass(frozen=True)
class FoldAffine(RulePass):
    """Fold multiplications and additions of per-channel constants into convolutions and products."""

    name: ClassVar[str] = "fold-affine"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
