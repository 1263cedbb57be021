"""Channels in front of depthwise convolutions scaled so that each uses more of the one range of the activation.

    B(f(A(x)))  -->  B'(f(A'(x)))          A' = A s on its output channels, B' = B / s on its channels

Both layers have a scale for each output channel, which takes up s: weights are rounded as before, and the activation's
rounding adds less to what B returns, sum_j |w_j|^2 / s_j^2 in place of sum_j |w_j|^2 steps squared. A channel j that
could be enlarged by r_j before it left the range is enlarged by sqrt(r_j): the rest is left to values that the samples
lack, which would be cut. f is whatever lets a positive scale through (`passes/equalize.py`). Other readers have one
scale for weights of several channels, and would lose there.

Source: Meller et al. 2019, Same, Same But Different; the square root is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphopt.analysis.ranges import Range, Ranges, model_digest
from graphopt.ir import Graph, Node, Value
from graphopt.passes.equalize import LAYERS, Pair, pair_from, rescale
from graphopt.runtime.stacked import Environment, Operand, Operands, evaluate, run
from graphopt.runtime.stacked_conv import is_depthwise

WORTHWHILE = 0.8
"""What is left of the noise at most."""

FARTHEST = 256.0
"""No channel is enlarged by more."""

CHANNELS = 1
"""Their axis."""


@dataclass(frozen=True)
class Seen:
    """The least and the greatest number of each channel over samples, zero included, in float64."""

    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(stack: np.ndarray) -> Seen:
        """Of (samples, batch, channels, ...)."""
        others = tuple(axis for axis in range(stack.ndim) if axis != 1 + CHANNELS)
        low, high = stack.min(others).astype(np.float64), stack.max(others).astype(np.float64)
        return Seen(np.minimum(low, 0), np.maximum(high, 0))

    @property
    def room(self) -> np.ndarray:
        """By how much each channel can be enlarged within the range of all."""
        rooms = [_ratio(self.low.min(), self.low), _ratio(self.high.max(), self.high)]
        room = np.minimum(*rooms)
        return np.where(np.isfinite(room), room, 1.0)


def balancing(graph: Graph, inputs: Environment) -> dict[Pair, np.ndarray]:
    """What to multiply channels by, by what they are on stacks of samples; pairs that gain little are left out."""
    found = [pair_from(node)[0] for node in graph.nodes if node.is_op(*LAYERS)]
    pairs = [pair for pair in found if pair is not None and is_depthwise(pair.second)]
    seen = _seen_between(graph, inputs, pairs)
    scales = {pair: scale_for(pair.second, seen[pair.between]) for pair in pairs}
    return {pair: scale for pair, scale in scales.items() if scale is not None}


def scale_for(depthwise: Node, seen: Seen) -> np.ndarray | None:
    """What to multiply the channels by that a convolution reads; None where little is gained."""
    weights = depthwise.inputs[1]
    assert weights is not None and weights.constant is not None
    energy = np.square(weights.constant, dtype=np.float64).reshape(len(seen.low), -1).sum(axis=1)
    scale = np.minimum(np.sqrt(seen.room), FARTHEST)
    return scale if (energy / scale**2).sum() < WORTHWHILE * energy.sum() else None


def balance(graph: Graph, scales: Mapping[Pair, np.ndarray], ranges: Ranges) -> Ranges:
    """Scale channels in place; returns the ranges of the graph as it is now.

    `ranges` are those before, by channel for `channels_of` the pairs.
    """
    changed = {}
    for pair, scale in scales.items():
        rescale(pair, scale)
        for value in pair.chain:
            old = ranges[value.name]
            changed[value.name] = Range(old.low * scale, old.high * scale, old.axis)
    if not changed:
        return ranges
    graph.remove_unused_constants()
    return replace(ranges.replaced(changed), model=model_digest(graph))


def channels_of(pairs: Iterable[Pair]) -> dict[str, int]:
    """The values whose channels are scaled, by name, with the axis of the channels."""
    return {value.name: CHANNELS for pair in pairs for value in pair.chain}


def _seen_between(graph: Graph, inputs: Environment, pairs: list[Pair]) -> dict[Value, Seen]:
    wanted = {pair.between for pair in pairs}
    seen: dict[Value, Seen] = {}

    def each(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
        made = evaluate(node, operands, environment)
        if node.output in wanted:
            seen[node.output] = Seen.of(made[0].data)
        return made

    if wanted:
        run(graph, dict(inputs), each)
    return seen


def _ratio(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.divide(whole, part, out=np.full_like(part, np.inf), where=part != 0)
