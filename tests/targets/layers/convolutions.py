"""Direct convolutions: first ones of an image, odd sizes, whatever follows or leads to them."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer, conv, in_blocks


def channels_last(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 9, 11, 5), perm=(0, 3, 1, 2))
    return g.op("Relu", conv(g, x, 24, (3, 3), pads=(1, 1, 1, 1), strides=(2, 2)))


def photograph(g: Draft) -> Value:
    return g.op("Relu", conv(g, g.input(1, 3, 17, 43), 40, (7, 7), pads=(3, 3, 3, 3), strides=(2, 2)))


def photograph_channels_last(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 10, 27, 3), perm=(0, 3, 1, 2))
    return conv(g, x, 8, (3, 3), pads=(0, 0, 1, 2), strides=(2, 2), dilations=(1, 2))


def photograph_narrower_than_a_vector(g: Draft) -> Value:
    return conv(g, g.input(1, 3, 8, 3), 24, (3, 3), pads=(1, 1, 1, 1))


def odd_channels(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 19, 7, 13), 21, (3, 3), pads=(1, 1, 1, 1))


def uneven_pads(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 16, 9, 8), 16, (2, 5), pads=(1, 3, 0, 2), strides=(1, 2), bias=False)


def dilated(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 8, 12, 17), 40, (3, 3), dilations=(2, 3), pads=(2, 3, 2, 3))


def window_wider_than_image(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 16, 2, 2), 16, (5, 5), pads=(2, 2, 2, 2))


def long_row(g: Draft) -> Value:
    return conv(g, in_blocks(g, 2, 16, 1, 101), 16, (1, 3), pads=(0, 1, 0, 1))


def one_dimension(g: Draft) -> Value:
    return g.op("Relu", conv(g, in_blocks(g, 2, 20, 31), 24, (5,), pads=(2, 2), strides=(2,)))


def grouped(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 64, 6, 7), 32, (3, 3), group=2, pads=(1, 1, 1, 1))


def pointwise_residual(g: Draft) -> Value:
    x = in_blocks(g, 2, 40, 7, 9)
    return g.op("Relu", g.op("Add", conv(g, g.op("Sigmoid", x), 40, (1, 1)), x))


def gated(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 5, 6)
    gate = g.op("HardSigmoid", conv(g, g.op("GlobalAveragePool", x), 24, (1, 1)))
    return g.op("Mul", x, gate)


def pre_activation(g: Draft) -> Value:
    """Scaled, shifted and cut before it is multiplied; the residual is the input itself."""
    x = in_blocks(g, 2, 40, 9, 7)
    y = g.op("Relu", g.op("Add", g.op("Mul", x, g.weight(40, 1, 1)), g.weight(40, 1, 1)))
    return g.op("Add", conv(g, y, 40, (1, 1)), x)


def gated_input(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 6, 11)
    gate = g.op("Sigmoid", g.op("GlobalAveragePool", x))
    return g.op("Sigmoid", conv(g, g.op("Mul", x, gate), 50, (1, 1)))


def pre_activation_in_one_dimension(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 67)
    return g.op("Add", conv(g, g.op("HardSwish", x), 37, (1,), bias=False), conv(g, x, 37, (1,)))


def swish(g: Draft) -> Value:
    y = conv(g, in_blocks(g, 1, 16, 5, 5), 16, (3, 3))
    return g.op("Mul", y, g.op("Sigmoid", y))


def pointwise_column(g: Draft) -> Value:
    return g.op("Add", conv(g, in_blocks(g, 1, 16, 9, 1), 24, (1, 1)), g.input(1, 24, 9, 1))


def by_pixel(g: Draft) -> Value:
    return g.op("Mul", conv(g, in_blocks(g, 1, 16, 4, 6), 16, (1, 1)), g.weight(4, 1))


def concatenated(g: Draft) -> Value:
    x = in_blocks(g, 1, 32, 4, 5)
    return conv(g, g.op("Concat", x, conv(g, x, 16, (1, 1)), axis=1), 16, (3, 3), pads=(1, 1, 1, 1))


LAYERS: tuple[Layer, ...] = (
    channels_last,
    photograph,
    photograph_channels_last,
    photograph_narrower_than_a_vector,
    odd_channels,
    uneven_pads,
    dilated,
    window_wider_than_image,
    long_row,
    one_dimension,
    grouped,
    pointwise_residual,
    gated,
    swish,
    pointwise_column,
    by_pixel,
    concatenated,
    pre_activation,
    gated_input,
    pre_activation_in_one_dimension,
)
