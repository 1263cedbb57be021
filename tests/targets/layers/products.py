"""Products with constant weights."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer


def gemm(g: Draft) -> Value:
    return g.op(
        "Relu", g.op("Gemm", g.input(5, 37), g.weight(29, 37), g.weight(29), transB=1, alpha=0.5, beta=2.0)
    )


def single_row(g: Draft) -> Value:
    return g.op("Gemm", g.input(1, 300), g.weight(300, 137), g.weight(137))


def single_column(g: Draft) -> Value:
    return g.op("MatMul", g.input(17, 9), g.weight(9, 1))


def batched_with_bias(g: Draft) -> Value:
    y = g.op("MatMul", g.input(2, 13, 64), g.weight(64, 50))
    return g.op("Gelu", g.op("Add", y, g.weight(50)))


def single_rows(g: Draft) -> Value:
    """Rows lie along an axis that another one, of length 1, follows."""
    y = g.op("MatMul", g.input(5, 1, 17), g.weight(17, 24))
    return g.op("Add", y, g.input(5, 1, 24))


def batched_with_residual(g: Draft) -> Value:
    y = g.op("MatMul", g.input(2, 3, 7, 20), g.weight(20, 48))
    return g.op("Add", g.op("Add", y, g.input(2, 3, 7, 48)), g.input(7, 1))


LAYERS: tuple[Layer, ...] = (
    gemm,
    single_row,
    single_column,
    single_rows,
    batched_with_bias,
    batched_with_residual,
)
