"""Transposed convolutions."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer, in_blocks


def transposed(
    g: Draft, x: Value, made: int, kernel: tuple[int, ...], *, bias: bool = True, **attributes: object
) -> Value:
    operands = [g.weight(x.static_shape[1], made, *kernel), *([g.weight(made)] if bias else [])]
    return g.op("ConvTranspose", x, *operands, **attributes)


def doubled(g: Draft) -> Value:
    return g.op("Relu", transposed(g, in_blocks(g, 2, 20, 5, 7), 24, (2, 2), strides=(2, 2)))


def transposed_with_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 6, 9)
    return transposed(g, x, 19, (4, 3), strides=(2, 2), pads=(1, 0, 0, 2), output_padding=(1, 0), bias=False)


def transposed_one_dimension(g: Draft) -> Value:
    return g.op("Gelu", transposed(g, in_blocks(g, 1, 16, 23), 16, (7,), strides=(3,), pads=(1, 2)))


def transposed_to_a_shape(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 5, 6, 3), perm=(0, 3, 1, 2))
    return transposed(g, x, 10, (3, 5), strides=(1, 3), output_shape=(6, 17), auto_pad="SAME_UPPER")


def transposed_residual(g: Draft) -> Value:
    x = in_blocks(g, 1, 32, 8, 8)
    return g.op("Add", transposed(g, x, 32, (3, 3), pads=(1, 1, 1, 1)), x)


LAYERS: tuple[Layer, ...] = (
    doubled,
    transposed_with_pads,
    transposed_one_dimension,
    transposed_to_a_shape,
    transposed_residual,
)
