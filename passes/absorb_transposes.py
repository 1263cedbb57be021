"""Transposes into the constants and products that read them.

    MatMul(Transpose(x), W), MatMul(x, Transpose(W))      -->  Gemm(x, W, transA=1), transB=1       matrices
    MatMul(Reshape(Transpose(x, p), [N, K]), W)           -->  MatMul(Reshape(x, [N, K]), W')       rows reordered
    Transpose(DequantizeLinear(W, s, z, axis), p)         -->  DequantizeLinear(W transposed, s, z, p^-1[axis])

A transpose of a plain constant is left to fold-constants.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir import Value
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

Permutation = tuple[int, ...]


def permutation_of(value: Value | None) -> Permutation | None:
    """The permutation of the Transpose that makes `value`; None when something else does."""
    if value is None or value.producer is None or not value.producer.is_op("Transpose"):
        return None
    source = value.producer.input(0)
    if source is None or source.rank is None:
        return None
    return value.producer.ints("perm", tuple(reversed(range(source.rank))))


def source_of(value: Value) -> Value:
    assert value.producer is not None
    source = value.producer.input(0)
    assert source is not None
    return source


def inverse(permutation: Permutation) -> Permutation:
    return tuple(int(i) for i in np.argsort(permutation))


class TransposeIntoGemm(Rule):
    """MatMul(Transpose(x), W) and MatMul(x, Transpose(W)) of matrices --> Gemm with transA or transB."""

    name = "transpose-into-gemm"
    pattern = Op("MatMul", Any("a"), Any("b"))

    def check(self, match: Match) -> str | None:
        a, b = match["a"], match["b"]
        if a.rank != 2 or b.rank != 2 or not a.dtype.is_float:
            return "an operand is not a matrix of floats"
        if permutation_of(a) != (1, 0) and permutation_of(b) != (1, 0):
            return "neither operand is transposed"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        operands, flags = [], []
        for value in (match["a"], match["b"]):
            transposed = permutation_of(value) == (1, 0)
            operands.append(source_of(value) if transposed else value)
            flags.append(int(transposed))
        return build.op("Gemm", *operands, transA=flags[0], transB=flags[1])


class TransposeIntoWeights(Rule):
    """MatMul(Reshape(Transpose(x, p), [N, K]), W) --> MatMul(Reshape(x, [N, K]), W'), also Gemm."""

    name = "transpose-into-weights"
    pattern = Op(
        ("MatMul", "Gemm"),
        Op("Reshape", Op("Transpose", Any("x"), bind="transpose"), Const(), bind="flatten"),
        Const("w"),
        Any("b", optional=True),
    )

    def check(self, match: Match) -> str | None:
        order, x = permutation_of(match.node("transpose").output), match["x"]
        flat = match.node("flatten").output.shape
        if order is None or x.shape is None or flat is None or order[0] != 0:
            return "it moves the batch, or its shape is not known"
        inner = [d for d in x.shape[1:] if isinstance(d, int)]
        if len(inner) + 1 != len(x.shape) or len(flat) != 2 or flat[1] != math.prod(inner):
            return "the reshape does not flatten all but the batch"
        if match.root.int("transA") or match["w"].rank != 2:
            return "it is not a product with a matrix"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, x, w = match.root, match["x"], match["w"]
        order = permutation_of(match.node("transpose").output)
        assert order is not None and x.shape is not None
        inner = [int(d) for d in x.shape[1:]]
        places = np.arange(math.prod(inner)).reshape(inner).transpose([a - 1 for a in order[1:]]).reshape(-1)
        weights = np.empty_like(match.data("w"))
        if node.int("transB"):
            weights[:, places] = match.data("w")
        else:
            weights[places] = match.data("w")
        batch = x.shape[0] if isinstance(x.shape[0], int) else -1
        flat = build.op("Reshape", x, build.shape([batch, places.size]))
        operands = [flat, build.const(weights, name=w.name), *node.inputs[2:]]
        return build.op(node.op_type, *operands, **node.attributes)


class TransposedDequantisedWeights(Rule):
    """Transpose(DequantizeLinear(W, s, z, axis), p) --> DequantizeLinear(W transposed, s, z, p^-1[axis])."""

    name = "transpose-of-quantised-weights"
    pattern = Op(
        "Transpose",
        Op("DequantizeLinear", Const("w"), Const("scale"), Const("zero", optional=True), bind="dequantize"),
        bind="transpose",
    )

    def check(self, match: Match) -> str | None:
        return "it works in blocks" if match.node("dequantize").int("block_size") else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        dequantize, w = match.node("dequantize"), match["w"]
        rank = w.rank or 0
        order = match.root.ints("perm", tuple(reversed(range(rank))))
        assert order is not None
        data = np.ascontiguousarray(match.data("w").transpose(order))
        attributes = {**dequantize.attributes}
        if match["scale"].rank:
            attributes["axis"] = order.index(dequantize.int("axis", 1) % rank)
        operands = (build.const(data, name=w.name), match["scale"], match.get("zero"))
        return build.op("DequantizeLinear", *operands, **attributes)


RULES = (TransposedDequantisedWeights(), TransposeIntoGemm(), TransposeIntoWeights())
