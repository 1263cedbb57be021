"""Scales and shifts by constants into the neighbouring convolution or product.

    Mul(Conv(x, W, b), s)       -->  Conv(x, s W, s b)     Div likewise; also ConvTranspose, Gemm, MatMul
    Add(Conv(x, W, b), t)       -->  Conv(x, W, b + t)             Sub likewise; also ConvTranspose, Gemm
    Conv(Mul(x, s), W, b)       -->  Conv(x, W s, b)               s per input channel; also Gemm, MatMul
    Conv(Add(x, t), W, b)       -->  Conv(x, W, b + W t)           without pads; also Gemm
    Mul(Mul(x, s), r)           -->  Mul(x, s r)                   Add of Add likewise

The arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.algebra import channel_axis, output_channels, per_channel, scale_outputs
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

ANCHORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _output_factors(match: Match, anchor: Node) -> np.ndarray | None:
    """The constant `c` as one number per output channel."""
    channels, rank = output_channels(anchor), anchor.output.rank
    if channels is None or rank is None:
        return None
    return per_channel(match.data("c"), rank, channels, channel_axis(anchor))


def _bias_of(match: Match, anchor: Node, channels: int) -> np.ndarray | None:
    """The bias in float64, one number per channel; None when it is of another form."""
    if match.get("b") is None:
        return np.zeros(channels)
    bias = per_channel(match.data("b"), 2 if anchor.op_type == "Gemm" else 1, channels, -1)
    return None if bias is None else bias * (anchor.float("beta", 1.0) if anchor.op_type == "Gemm" else 1.0)


def _rebuild(
    match: Match, build: Builder, anchor: Node, weights: np.ndarray, bias: np.ndarray | None
) -> Value:
    w = match["w"]
    attributes = {**anchor.attributes}
    if anchor.op_type == "Gemm":
        attributes["beta"] = 1.0
    operands = [match["x"], build.const(weights, like=w, name=w.name)]
    if bias is not None:
        operands.append(build.const(bias, like=w, name=f"{anchor.name}.bias"))
    return build.op(anchor.op_type, *operands, **attributes)


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
        if match["w"].dtype.is_float is False:
            return "the weights are not floats"
        return None if _bias_of(match, anchor, factors.size) is not None else "the bias is not per channel"

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        factors = _output_factors(match, anchor)
        assert factors is not None
        if match.root.op_type == "Div":
            factors = 1.0 / factors
        bias = _bias_of(match, anchor, factors.size)
        weights = scale_outputs(anchor, match.data("w"), factors)
        assert bias is not None
        return _rebuild(match, build, anchor, weights, None if match.get("b") is None else bias * factors)


class ShiftAfter(Rule):
    """Add(Conv(x, W, b), t) --> Conv(x, W, b + t)."""

    name = "fold-shift-into-producer"
    pattern = Op(
        ("Add", "Sub"),
        Op(ANCHORS[:3], Any("x"), Const("w"), Const("b", optional=True), bind="anchor"),
        Const("c"),
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        shift = _output_factors(match, anchor)
        if shift is None:
            return f"'{match['c'].name}' is not one number per output channel"
        return None if _bias_of(match, anchor, shift.size) is not None else "the bias is not per channel"

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        shift = _output_factors(match, anchor)
        assert shift is not None
        bias = _bias_of(match, anchor, shift.size)
        assert bias is not None
        total = bias - shift if match.root.op_type == "Sub" else bias + shift
        return _rebuild(match, build, anchor, match.data("w"), total)


def _input_factors(match: Match, anchor: Node) -> np.ndarray | None:
    """The constant `c` as one number per input channel."""
    w, rank = match.data("w"), match["x"].rank
    if rank is None:
        return None
    if anchor.op_type == "Conv":
        return per_channel(match.data("c"), rank, w.shape[1] * anchor.int("group", 1), 1)
    if anchor.op_type == "Gemm":
        if anchor.int("transA"):
            return None
        return per_channel(match.data("c"), rank, w.shape[1] if anchor.int("transB") else w.shape[0], -1)
    return per_channel(match.data("c"), rank, w.shape[0], -1) if w.ndim == 2 else None


def _scale_inputs(anchor: Node, weights: np.ndarray, factors: np.ndarray) -> np.ndarray:
    w = weights.astype(np.float64)
    if anchor.op_type == "Conv":
        groups = anchor.int("group", 1)
        grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        by_group = factors.reshape(groups, 1, w.shape[1], *(1,) * (w.ndim - 2))
        return (grouped * by_group).reshape(w.shape)
    if anchor.op_type == "Gemm" and anchor.int("transB"):
        return w * factors
    return w * factors.reshape(-1, 1)


class ScaleBefore(Rule):
    """Conv(Mul(x, s), W, b) --> Conv(x, W s, b)."""

    name = "fold-scale-into-consumer"
    pattern = Op(
        ("Conv", "Gemm", "MatMul"),
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
        anchor = match.node("anchor")
        factors = _input_factors(match, anchor)
        assert factors is not None
        if match.node("affine").op_type == "Div":
            factors = 1.0 / factors
        w = match["w"]
        weights = build.const(_scale_inputs(anchor, match.data("w"), factors), like=w, name=w.name)
        operands = [match["x"], weights] + ([match["b"]] if match.get("b") is not None else [])
        return build.op(anchor.op_type, *operands, **anchor.attributes)


class ShiftBefore(Rule):
    """Conv(Add(x, t), W, b) --> Conv(x, W, b + W t), where no pad dilutes the shift."""

    name = "fold-shift-into-consumer"
    pattern = Op(
        ("Conv", "Gemm"),
        Op(("Add", "Sub"), Any("x"), Const("c"), bind="affine"),
        Const("w"),
        Const("b", optional=True),
        bind="anchor",
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        if _input_factors(match, anchor) is None:
            return f"'{match['c'].name}' is not one number per input channel"
        if anchor.str("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(anchor.ints("pads", ()) or ()):
            return f"'{anchor.name}' pads its input with zeros"
        channels = output_channels(anchor)
        if channels is None or _bias_of(match, anchor, channels) is None:
            return "the bias is not per channel"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        shift, channels = _input_factors(match, anchor), output_channels(anchor)
        assert shift is not None and channels is not None
        if match.node("affine").op_type == "Sub":
            shift = -shift
        shifted = _scale_inputs(anchor, match.data("w"), shift)
        if anchor.op_type == "Conv":
            moved = shifted.sum(axis=tuple(range(1, shifted.ndim)))
        else:
            moved = anchor.float("alpha", 1.0) * shifted.sum(axis=1 if anchor.int("transB") else 0)
        bias = _bias_of(match, anchor, channels)
        assert bias is not None
        return _rebuild(match, build, anchor, match.data("w"), bias + moved)


class AffineChain(Rule):
    """Mul(Mul(x, s), r) --> Mul(x, s r); Add(Add(x, s), r) --> Add(x, s + r)."""

    name = "affine-chain"
    pattern = Op(("Mul", "Add"), Op(("Mul", "Add"), Any("x"), Const("s"), bind="inner"), Const("r"))

    def check(self, match: Match) -> str | None:
        if match.root.op_type != match.node("inner").op_type:
            return "one scales, the other shifts"
        if not match["x"].dtype.is_float:
            return "integers may overflow in another order"
        try:
            shape = np.broadcast_shapes(match.data("s").shape, match.data("r").shape)
        except ValueError:
            return "the constants do not broadcast to one shape"
        if np.prod(shape) > max(match.data("s").size, match.data("r").size):
            return "the product of the constants is larger than either"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        s, r = (match.data(n).astype(np.float64) for n in "sr")
        both = s * r if match.root.op_type == "Mul" else s + r
        return build.op(
            match.root.op_type, match["x"], build.const(both, like=match["x"], name=match["s"].name)
        )


RULES = (ScaleAfter(), ShiftAfter(), ScaleBefore(), ShiftBefore(), AffineChain())


@dataclass(frozen=True)
class FoldAffine(RulePass):
    """Fold multiplications and additions of per-channel constants into convolutions and products."""

    name: ClassVar[str] = "fold-affine"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
