"""Channels between two layers scaled so that both layers' weights use their ranges alike.

    B(f(A(x)))  -->  B'(f(A'(x)))          A' = A / s on its output channels, B' = B s on its input channels

f must let a positive scale through: nothing, Relu, LeakyRelu, moves of whole channels, poolings. With the range r_A of
each output channel of A's weights and r_B of each input channel of B's, s = sqrt(r_A / r_B) gives both the range
sqrt(r_A r_B). Chains are done over and over until scales settle; a depthwise convolution is both ends. A Clip between
does not let a scale through and keeps its layers as they are.

Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.passes.algebra import bias_of, input_channels, output_channels, scale_inputs, scale_outputs
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics

LAYERS = ("Conv", "ConvTranspose", "Gemm")
LINEAR = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LeakyRelu", "MaxPool", "Relu"})
"""They let a positive scale of a channel through."""

ROUNDS = 20
SETTLED = 1.01
"""A factor below which another scale changes nothing."""

FARTHEST = 256.0
"""No channel is scaled by more in all: what it makes is quantised too."""


@dataclass(frozen=True)
class Pair:
    """Two layers, the second of which alone reads what the first makes."""

    first: Node
    second: Node

    @property
    def between(self) -> Value:
        """What the second reads."""
        value = self.second.inputs[0]
        assert value is not None
        return value

    @property
    def chain(self) -> list[Value]:
        """All values from what the first makes to what the second reads."""
        found = [self.first.output]
        while found[-1] is not self.between:
            found.append(found[-1].users[0].output)
        return found


@dataclass(frozen=True)
class Equalize(Pass):
    """Scale the channels between layers so that both use the range of their weights."""

    name: ClassVar[str] = "equalize"
    rounds: int = ROUNDS

    def run(self, graph: Graph, statistics: Statistics) -> None:
        pairs = []
        for node in graph.nodes:
            if not node.is_op(*LAYERS):
                continue
            found, reason = pair_from(node)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if found is not None:
                pairs.append(found)
        total = {pair.first: np.ones(output_channels(pair.first) or 0) for pair in pairs}
        for _ in range(self.rounds):
            if not max((_balance(pair, total[pair.first]) for pair in pairs), default=1.0) > SETTLED:
                break
        statistics.fired[self.name] += len(pairs)
        graph.remove_unused_constants()


def pair_from(first: Node) -> tuple[Pair | None, str]:
    """The pair that begins at a layer, or why there is none."""
    channels = output_channels(first)
    if channels is None or bias_of(first, channels) is None:
        return None, "its weights or its bias are computed, or vary in another way"
    node = first
    while True:
        if len(node.output.uses) != 1 or node.output.is_graph_output:
            return None, f"'{node.output.name}' is needed elsewhere too"
        reader = node.output.users[0]
        if reader.is_op(*LAYERS):
            break
        if not reader.is_op(*LINEAR) and not _flattens_pixels(reader):
            return None, f"'{reader.name}' ({reader.key}) lets no scale through"
        node = reader
    if node.output.uses[0].index != 0 or input_channels(reader) != channels:
        return None, f"'{reader.name}' does not read its channels"
    return Pair(first, reader), ""


def _flattens_pixels(node: Node) -> bool:
    """Only axes of one element go: each channel is one number before and after."""
    source = node.inputs[0]
    if not node.is_op("Flatten", "Reshape", "Squeeze") or source is None:
        return False
    if not source.is_static or not node.output.is_static or source.rank is None or source.rank < 2:
        return False
    return node.output.static_shape == source.static_shape[:2] and source.size == node.output.size


def _balance(pair: Pair, total: np.ndarray) -> float:
    """Scale the channels of a pair; returns the largest factor."""
    made, read = _output_range(pair.first), _input_range(pair.second)
    known = (made > 0) & (read > 0)
    wanted = np.sqrt(np.divide(made, read, out=np.ones_like(made), where=known))
    scale = np.clip(total * wanted, 1 / FARTHEST, FARTHEST) / total
    total *= scale
    rescale(pair, 1 / scale)
    return float(np.maximum(scale, 1 / scale).max(initial=1.0))


def rescale(pair: Pair, scale: np.ndarray) -> None:
    """Multiply the channels between two layers, and keep what the second returns."""
    first, second = pair.first, pair.second
    _replace(first, 1, scale_outputs(first, _data(first, 1), scale))
    if first.input(2) is not None:
        bias = bias_of(first, len(scale))
        assert bias is not None
        beta = first.float("beta", 1.0) if first.op_type == "Gemm" else 1.0
        _replace(first, 2, bias * scale / (beta or 1.0))
    _replace(second, 1, scale_inputs(second, _data(second, 1), 1 / scale))


def _output_range(node: Node) -> np.ndarray:
    """The largest weight of each output channel."""
    weights = np.abs(_data(node, 1).astype(np.float64))
    if node.op_type == "ConvTranspose":
        groups = node.int("group", 1)
        grouped = weights.reshape(groups, -1, *weights.shape[1:])
        return np.moveaxis(grouped, 2, 1).reshape(groups * weights.shape[1], -1).max(axis=1)
    axis = 1 if node.op_type == "Gemm" and not node.int("transB") else 0
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).max(axis=1)


def _input_range(node: Node) -> np.ndarray:
    """The largest weight of each input channel."""
    weights = np.abs(_data(node, 1).astype(np.float64))
    if node.op_type == "Conv":
        groups = node.int("group", 1)
        grouped = weights.reshape(groups, -1, *weights.shape[1:])
        return np.moveaxis(grouped, 2, 1).reshape(groups * weights.shape[1], -1).max(axis=1)
    axis = 1 if node.op_type == "Gemm" and node.int("transB") else 0
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).max(axis=1)


def _data(node: Node, index: int) -> np.ndarray:
    value = node.inputs[index]
    assert value is not None and value.constant is not None
    return value.constant


def _replace(node: Node, index: int, data: np.ndarray) -> None:
    old: Value | None = node.inputs[index]
    assert old is not None and node.graph is not None
    node.set_input(index, node.graph.add_constant(data.astype(old.dtype.numpy), old.name))
