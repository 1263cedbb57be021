"""Batch normalisation into its neighbours.

Inference computes y = (x - mean) / sqrt(var + eps) * gamma + beta = x * s + t with

    s = gamma / sqrt(var + eps)        t = beta - mean * s

    BatchNormalization(Conv(x, W, b))  -->  Conv(x, s W, s b + t)      also ConvTranspose, Gemm, MatMul
    BatchNormalization(x)              -->  Add(Mul(x, s), t)          (fold-affine takes it further)

The arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.algebra import output_channels, scale_outputs
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

STATISTICS = (Const("gamma"), Const("beta"), Const("mean"), Const("var"))
ANCHORS = ("Conv", "ConvTranspose", "Gemm")


def scale_and_shift(match: Match, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """s and t in float64, one number per channel."""
    gamma, beta, mean, var = (match.data(n).astype(np.float64) for n in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + node.float("epsilon", 1e-5))
    return scale, beta - mean * scale


def inference_only(match: Match, node: Node) -> str | None:
    if node.int("training_mode") or len([v for v in node.outputs if v.uses]) > 1:
        return f"'{node.name}' is in training mode"
    with np.errstate(invalid="ignore"):
        scale, shift = scale_and_shift(match, node)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return f"the statistics of '{node.name}' give no finite scale"
    return None


class FoldIntoProducer(Rule):
    """BatchNormalization(Conv(x, W, b)) --> Conv(x, s W, s b + t)."""

    name = "fold-batchnorm-into-producer"
    pattern = Op(
        "BatchNormalization",
        Op(ANCHORS, Any("x"), Const("w"), Const("b", optional=True), bind="anchor"),
        *STATISTICS,
        bind="bn",
    )

    def check(self, match: Match) -> str | None:
        anchor = match.node("anchor")
        if match.get("b") is not None and match.data("b").ndim > 1 and match.data("b").shape[0] != 1:
            return f"the bias of '{anchor.name}' varies from row to row"
        if output_channels(anchor) != match.data("gamma").size:
            return f"the channels of '{anchor.name}' are not those of the statistics"
        return inference_only(match, match.node("bn"))

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        anchor, bn = match.node("anchor"), match.node("bn")
        scale, shift = scale_and_shift(match, bn)
        w = match["w"]
        bias = np.zeros_like(scale)
        if match.get("b") is not None:
            bias = match.data("b").astype(np.float64).reshape(-1) * anchor.float("beta", 1.0)
        weights = scale_outputs(anchor, match.data("w"), scale)
        attributes = {**anchor.attributes}
        if anchor.op_type == "Gemm":
            attributes["beta"] = 1.0
        folded = build.op(
            anchor.op_type,
            match["x"],
            build.const(weights, like=w, name=w.name),
            build.const(bias * scale + shift, like=w, name=f"{anchor.name}.bias"),
            **attributes,
        )
        return (folded, *(None for _ in bn.outputs[1:]))


class BatchNormToAffine(Rule):
    """BatchNormalization(x) --> Add(Mul(x, s), t)."""

    name = "batchnorm-to-affine"
    pattern = Op("BatchNormalization", Any("x"), *STATISTICS, bind="bn")

    def check(self, match: Match) -> str | None:
        if match["x"].rank is None:
            return "the rank is unknown"
        return inference_only(match, match.node("bn"))

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        x, bn = match["x"], match.node("bn")
        scale, shift = scale_and_shift(match, bn)
        shape = (-1, *(1,) * max((x.rank or 2) - 2, 0))
        scaled = build.op("Mul", x, build.const(scale.reshape(shape), like=x, name=f"{bn.name}.scale"))
        result = build.op("Add", scaled, build.const(shift.reshape(shape), like=x, name=f"{bn.name}.shift"))
        return (result, *(None for _ in bn.outputs[1:]))


RULES = (FoldIntoProducer(), BatchNormToAffine())


@dataclass(frozen=True)
class FoldBatchNorm(RulePass):
    """Fold batch normalisation into convolutions and products, or into a scale and a shift."""

    name: ClassVar[str] = "fold-batchnorm"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
