"""Softmax and normalisations of rows."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer


def softmax_of_odd_rows(g: Draft) -> Value:
    return g.op("Mul", g.op("Softmax", g.input(3, 1, 53)), g.input(3, 1, 1))


def log_softmax_of_rows(g: Draft) -> Value:
    return g.op("LogSoftmax", g.op("MatMul", g.input(7, 12), g.weight(12, 64)), axis=-1)


def rows_less_their_mean(g: Draft) -> Value:
    """Numbers far from zero: their variance is that of what is left without the mean."""
    x = g.op("Add", g.input(2, 5, 131), g.const(100.0))
    return g.op(
        "Relu", g.op("LayerNormalization", g.op("Transpose", x, perm=(1, 0, 2)), g.weight(131), g.weight(131))
    )


def rows_by_their_root(g: Draft) -> Value:
    return g.op("RMSNormalization", g.input(4, 1, 1, 96), g.weight(96))


LAYERS: tuple[Layer, ...] = (
    softmax_of_odd_rows,
    log_softmax_of_rows,
    rows_less_their_mean,
    rows_by_their_root,
)
