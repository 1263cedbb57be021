"""One form of the dense layer.

    Add(MatMul(x, W), b)                   -->  Gemm(x, W, b)          x is a matrix, b one number per column
    Gemm(x, W, b, alpha, beta, transB)     -->  Gemm(x, W', b')        W' = alpha W (transposed), b' = beta b

Weights of a Gemm end up as (K, N): then neighbouring outputs are neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.passes.algebra import per_channel
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class MatMulAddToGemm(Rule):
    """Add(MatMul(x, W), b) --> Gemm(x, W, b)."""

    name = "matmul-add-to-gemm"
    pattern = Op("Add", Op("MatMul", Any("x"), Const("w")), Const("b"))

    def check(self, match: Match) -> str | None:
        if match["x"].rank != 2 or match["w"].rank != 2:
            return "an operand is not a matrix"
        if not match["w"].dtype.is_float:
            return "the weights are not floats"
        if per_channel(match.data("b"), 2, match.data("w").shape[1], -1) is None:
            return f"'{match['b'].name}' is not one number per column"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        columns = match.data("w").shape[1]
        bias = np.broadcast_to(match.data("b").reshape(-1), (columns,))
        return build.op("Gemm", match["x"], match["w"], build.const(bias, name=match["b"].name))


class PlainGemm(Rule):
    """Gemm with alpha, beta or transB --> Gemm without, the constants changed instead."""

    name = "plain-gemm"
    pattern = Op("Gemm", Any("x"), Const("w"), Const("b", optional=True))

    def check(self, match: Match) -> str | None:
        node = match.root
        if not match["w"].dtype.is_float:
            return "the weights are not floats"
        b = match.get("b")
        plain_beta = node.float("beta", 1.0) == 1.0 or b is None
        if node.float("alpha", 1.0) == 1.0 and plain_beta and not node.int("transB"):
            return "it is plain already"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, w = match.root, match["w"]
        weights = match.data("w").astype(np.float64) * node.float("alpha", 1.0)
        if node.int("transB"):
            weights = np.ascontiguousarray(weights.T)
        operands = [match["x"], build.const(weights, like=w, name=w.name)]
        b = match.get("b")
        if b is not None:
            bias = match.data("b").astype(np.float64) * node.float("beta", 1.0)
            operands.append(build.const(bias, like=b, name=b.name))
        return build.op("Gemm", *operands, transA=node.int("transA"))


RULES = (MatMulAddToGemm(), PlainGemm())


@dataclass(frozen=True)
class NormalizeMatMul(RulePass):
    """Write dense layers as plain Gemm nodes."""

    name: ClassVar[str] = "normalize-matmul"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
