"""Depthwise convolutions."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer, conv, in_blocks


def depthwise(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 9, 15)
    return g.op("HardSwish", conv(g, x, 35, (5, 5), group=35, pads=(2, 2, 2, 2)))


def depthwise_strided(g: Draft) -> Value:
    x = in_blocks(g, 2, 32, 8, 33)
    return conv(g, x, 32, (3, 3), group=32, strides=(2, 2), pads=(0, 0, 1, 1), bias=False)


def depthwise_one_dimension(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 24, 29), 24, (3,), group=24, pads=(1, 1))


def depthwise_of_few_channels(g: Draft) -> Value:
    """Half a vector of them, where vectors are long; then more."""
    x = conv(g, g.input(1, 3, 27, 19), 8, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1))
    x = conv(g, g.op("Relu", x), 8, (3, 3), group=8, pads=(1, 1, 1, 1))
    return conv(g, g.op("Relu", x), 40, (1, 1))


LAYERS: tuple[Layer, ...] = (
    depthwise,
    depthwise_strided,
    depthwise_one_dimension,
    depthwise_of_few_channels,
)
