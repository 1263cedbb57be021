"""Batch normalisation into its neighbours.

Inference computes y = (x - mean) / sqrt(var + eps) * gamma + beta = x * s + t with

    s = gamma / sqrt(var + eps)        t = beta - mean * s

    BatchNormalization(Conv(x, W, b))  -->  Conv(x, s W, s b + t)      also ConvTranspose, Gemm, MatMul
    Conv(BatchNormalization(x), W, b)  -->  Conv(x, W s, b + W t)      where no pad dilutes t; also Gemm, MatMul
    BatchNormalization(x)              -->  Add(Mul(x, s), t)          (fold-affine takes it further)

The arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.passes.algebra import (
    bias_of,
    input_axis,
    input_channels,
    output_channels,
    rebuilt,
    scale_inputs,
    scale_outputs,
    shift_inputs,
    takes_bias,
)
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule, Statistics, apply_rules

STATISTICS = (Const("gamma"), Const("beta"), Const("mean"), Const("var"))
ANCHORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def scale_and_shift(match: Match, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """s and t in float64, one number per channel."""
    gamma, beta, mean, var = (match.data(n).astype(np.float64) for n in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + node.float("epsilon", 1e-5))
    return scale, beta - mean * scale


def inference_only(match: Match, node: Node) -> str | None:
    if node.int("training_mode") or any(v.uses or v.is_graph_output for v in node.outputs[1:]):
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
        channels = match.data("gamma").size
        if output_channels(anchor) != channels:
            return f"the channels of '{anchor.name}' are not those of the statistics"
        if not takes_bias(anchor):
            return f"the channels of '{anchor.name}' are not its last axis"
        if bias_of(anchor, channels) is None:
            return f"the bias of '{anchor.name}' varies from row to row"
        return inference_only(match, match.node("bn"))

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        anchor, bn = match.node("anchor"), match.node("bn")
        scale, shift = scale_and_shift(match, bn)
        weights = scale_outputs(anchor, match.data("w"), scale)
        bias = bias_of(anchor, scale.size)
        assert bias is not None
        folded = rebuilt(build, anchor, match["x"], weights=weights, bias=bias * scale + shift)
        return (folded, *(None for _ in bn.outputs[1:]))


class FoldIntoConsumer(Rule):
    """Conv(BatchNormalization(x), W, b) --> Conv(x, W s, b + W t), where no pad dilutes t."""

    name = "fold-batchnorm-into-consumer"
    pattern = Op(
        ANCHORS,
        Op("BatchNormalization", Any("x"), *STATISTICS, bind="bn"),
        Const("w"),
        Const("b", optional=True),
        bind="anchor",
    )

    def check(self, match: Match) -> str | None:
        anchor, bn = match.node("anchor"), match.node("bn")
        channels, rank = output_channels(anchor), match["x"].rank
        if input_channels(anchor) != match.data("gamma").size or rank is None:
            return f"the channels of '{anchor.name}' are not those of the statistics"
        if input_axis(anchor) % rank != 1 or channels is None or not takes_bias(anchor):
            return f"the channels of '{anchor.name}' are not those that are normalised"
        if bias_of(anchor, channels) is None:
            return f"the bias of '{anchor.name}' varies from row to row"
        if reason := inference_only(match, bn):
            return reason
        if shift_inputs(anchor, match.data("w"), scale_and_shift(match, bn)[1]) is None:
            return f"'{anchor.name}' pads its input with zeros"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        anchor = match.node("anchor")
        scale, shift = scale_and_shift(match, match.node("bn"))
        weights = match.data("w")
        bias, moved = bias_of(anchor, output_channels(anchor) or 0), shift_inputs(anchor, weights, shift)
        assert bias is not None and moved is not None
        scaled = scale_inputs(anchor, weights, scale)
        return rebuilt(build, anchor, match["x"], weights=scaled, bias=bias + moved)


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


NEIGHBOURS = (FoldIntoProducer(), FoldIntoConsumer())
RULES = (*NEIGHBOURS, BatchNormToAffine())


@dataclass(frozen=True)
class FoldBatchNorm(RulePass):
    """Fold batch normalisation into convolutions and products, or into a scale and a shift."""

    name: ClassVar[str] = "fold-batchnorm"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES

    def run(self, graph: Graph, statistics: Statistics) -> None:
        """Neighbours first: alone is what none of them could take."""
        apply_rules(graph, NEIGHBOURS, statistics)
        super().run(graph, statistics)
