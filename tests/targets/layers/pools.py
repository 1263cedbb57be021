"""Pools of images in blocks."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer, in_blocks, prepared


def max_pool(g: Draft) -> Value:
    x = in_blocks(g, 1, 20, 9, 11)
    return g.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))


def average_pool(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 7, 8)
    return g.op("AveragePool", x, kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1))


def average_pool_with_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 7, 8)
    return g.op("AveragePool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1)


def max_pool_beyond_the_pads(g: Draft) -> Value:
    x = in_blocks(g, 2, 20, 10, 13)
    return g.op("MaxPool", x, kernel_shape=(3, 2), strides=(2, 3), pads=(1, 0, 0, 1), ceil_mode=1)


def average_pool_beyond_the_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 10, 38)
    return g.op("AveragePool", x, kernel_shape=(3, 3), strides=(2, 3), pads=(1, 1, 1, 1), ceil_mode=1)


def average_pool_beyond_the_image(g: Draft) -> Value:
    return g.op("AveragePool", in_blocks(g, 1, 16, 9, 38), kernel_shape=(4, 5), strides=(3, 4), ceil_mode=1)


def average_pool_with_some_pads(g: Draft) -> Value:
    window = {"kernel_shape": (3, 5), "strides": (2, 3), "pads": (1, 2, 1, 2)}
    return g.op("AveragePool", in_blocks(g, 1, 16, 10, 38), ceil_mode=1, count_include_pad=1, **window)


def dilated_max_pool(g: Draft) -> Value:
    window = {"kernel_shape": (3, 2), "dilations": (2, 3), "strides": (1, 2), "pads": (2, 1, 2, 3)}
    return g.op("MaxPool", in_blocks(g, 1, 24, 9, 23), **window)


def dilated_average_pool(g: Draft) -> Value:
    window = {"kernel_shape": (3, 2), "dilations": (2, 3), "strides": (1, 2), "pads": (2, 1, 2, 2)}
    return g.op("AveragePool", in_blocks(g, 1, 24, 9, 24), ceil_mode=1, **window)


def average_pool_of_activations(g: Draft) -> Value:
    x, window = in_blocks(g, 2, 24, 7, 9), {"kernel_shape": (2, 3), "strides": (2, 3)}
    return g.op("Add", g.op("AveragePool", prepared(g, x), **window), g.op("MaxPool", x, **window))


def global_pool_of_activations(g: Draft) -> Value:
    x = in_blocks(g, 2, 24, 7, 9)
    by_row = g.op("Mul", prepared(g, x), g.weight(7, 1))
    return g.op("Add", g.op("GlobalMaxPool", by_row), g.op("GlobalAveragePool", x))


def pool_one_dimension(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 22)
    return g.op("Sigmoid", g.op("AveragePool", x, kernel_shape=(3,), strides=(2,), pads=(1, 0), ceil_mode=1))


def global_pools(g: Draft) -> Value:
    x = in_blocks(g, 2, 24, 5, 7)
    return g.op("Concat", g.op("GlobalAveragePool", x), g.op("GlobalMaxPool", x), axis=1)


LAYERS: tuple[Layer, ...] = (
    max_pool,
    max_pool_beyond_the_pads,
    average_pool,
    average_pool_with_pads,
    average_pool_beyond_the_pads,
    average_pool_beyond_the_image,
    average_pool_with_some_pads,
    dilated_max_pool,
    dilated_average_pool,
    pool_one_dimension,
    average_pool_of_activations,
    global_pool_of_activations,
    global_pools,
)
