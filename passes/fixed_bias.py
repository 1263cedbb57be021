"""A bias in units of the multiplier that fixed point has, instead of the scale that it stands for.

    quant::Requantize(quant::Conv(x, W, b), m)  -->  quant::Requantize(quant::Conv(x, W, round(b c 2^32 / m)), m)

A channel whose weights are next to nothing has a scale c that small, and a bias that large: up to 2^31 times a
multiplier m of few bits, which is off by up to half a step for every pixel. With the other bias only what the weights
add to it is multiplied by what m is off. It is rounded, to m / 2^33 of a step, so that this is for small multipliers.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import QUANT, Value
from graphopt.passes.integers import LARGEST_SUM, sum_reach
from graphopt.rewrite import Builder
from graphopt.runtime.fixed_point import MULTIPLIER_BITS, encoded

SMALL = 2.0**-16
"""Of a scale. In larger ones a bias within the range of a byte is below 2^25, and m is off by less than 2^-7 steps."""


def with_matching_bias(build: Builder, sums: Value, scale: np.ndarray, root: Value) -> Value:
    """The sums with another bias where that is nearer to `scale`; as they are where others read them too."""
    node = sums.producer
    bias = None if node is None or node.domain != QUANT else node.input(2)
    if node is None or bias is None or bias.constant is None or not _is_for(sums, root):
        return sums
    exact, given = bias.constant.astype(np.float64), np.broadcast_to(scale.reshape(-1), bias.static_shape)
    multiplier = encoded(given)[0].astype(np.float64)
    small = (given < SMALL) & (multiplier > 0)
    ratio = np.ldexp(given, MULTIPLIER_BITS) / np.where(small, multiplier, 1.0)
    matching = np.rint(np.where(small, exact * ratio, exact))
    if (matching == exact).all() or not _fits(sums, exact, matching):
        return sums
    assert sums.type is not None
    operands = (*node.inputs[:2], build.const(matching.astype(np.int32), name=bias.name))
    (made,) = build.ops(
        node.op_type, *operands, outputs=1, domain=QUANT, types=(sums.type,), **node.attributes
    )
    return made


def _is_for(value: Value, root: Value) -> bool:
    """Nobody but what leads to `root` reads it."""
    while value is not root:
        if len(value.uses) != 1 or value.is_graph_output:
            return False
        value = value.users[0].output
    return True


def _fits(sums: Value, bias: np.ndarray, other: np.ndarray) -> bool:
    reach = sum_reach(sums).reshape(-1) - np.abs(bias) + np.abs(other)
    return bool((reach < LARGEST_SUM).all())
