"""Channels whose values are far larger than the others' handed from what is read to what reads it.

    MatMul(LayerNormalization(x, g, b), W)  -->  MatMul(LayerNormalization(x, g / s, b / s), s W)

One scale for a whole tensor is set by its largest channel, and leaves the others few steps. Weights have a scale for
each output channel, and can take some of it: s = max|x_j|^a / max|W_j|^(1 - a) for each channel j, where the largest
|x_j| is what calibration saw. All products that read the normalisation take the same s. The ranges follow.

Source: Xiao et al. 2022, SmoothQuant; a is its migration strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.analysis.ranges_file import load_ranges
from graphopt.errors import UsageError
from graphopt.ir import Graph, Node
from graphopt.passes.algebra import input_channels, scale_inputs
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics

NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
PRODUCTS = ("Gemm", "MatMul")
STRENGTH = 0.5
SMALLEST = 1e-5
"""Of the largest channel: a channel of zeros takes no part."""


@dataclass(frozen=True)
class MigrateOutliers(Pass):
    """Hand large channels of normalised values to the weights that read them, by ranges of each channel."""

    name: ClassVar[str] = "migrate-outliers"
    ranges: str = ""
    strength: float = STRENGTH

    def run(self, graph: Graph, statistics: Statistics) -> None:
        if not self.ranges:
            hint = "write migrate-outliers{ranges=FILE.json}, of ranges per channel"
            raise UsageError("it needs the ranges of activations", hint=hint)
        known = {
            name: range.magnitude
            for name, range in load_ranges(self.ranges).items()
            if range.axis is not None
        }
        for node in list(graph.nodes):
            if not node.is_op(*NORMALIZATIONS):
                continue
            reason = migrate(node, known, self.strength)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            statistics.fired[self.name] += not reason
        graph.remove_unused_constants()


def migrate(node: Node, magnitudes: Mapping[str, np.ndarray], strength: float) -> str:
    """Scale what a normalisation makes, in place; returns why it was not done, empty where it was."""
    readers = node.output.users
    channels = node.output.shape[-1] if node.output.shape else None
    seen = magnitudes.get(node.output.name)
    if seen is None or seen.shape != (channels,):
        return f"no range of each channel of '{node.output.name}' is known"
    if node.output.is_graph_output or len(node.outputs) > 1 and any(v.uses for v in node.outputs[1:]):
        return "its results are needed elsewhere"
    if any(
        v is not None and (v.constant is None or v.constant.shape != (channels,)) for v in node.inputs[1:]
    ):
        return "its parameters are not one number for each channel"
    for use in node.output.uses:
        if not use.node.is_op(*PRODUCTS) or use.index != 0 or input_channels(use.node) != channels:
            return f"'{use.node.name}' ({use.node.key}) is no product over its channels"
    if not readers:
        return "nobody reads it"
    scale = migration(seen, [_channel_range(reader) for reader in readers], strength)
    for index in range(1, len(node.inputs)):
        if node.inputs[index] is not None:
            _replace(node, index, _data(node, index).astype(np.float64) / scale)
    for reader in readers:
        _replace(reader, 1, scale_inputs(reader, _data(reader, 1), scale))
    return ""


def migration(seen: np.ndarray, weights: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """What each channel is divided by, from the largest values seen and the largest weights that meet them.

    The geometric mean over channels is one, which leaves the ranges where they were.
    """
    x = np.maximum(seen.astype(np.float64), SMALLEST * seen.max(initial=0.0))
    w = np.max(weights, axis=0)
    w = np.maximum(w, SMALLEST * w.max(initial=0.0))
    if not (x > 0).all() or not (w > 0).all():
        return np.ones_like(x)
    scale = x**strength / w ** (1 - strength)
    return scale / np.exp(np.log(scale).mean())


def _channel_range(node: Node) -> np.ndarray:
    """The largest weight of each input channel."""
    weights = np.abs(_data(node, 1).astype(np.float64))
    return weights.max(axis=0 if node.op_type == "Gemm" and node.int("transB") else 1)


def _data(node: Node, index: int) -> np.ndarray:
    value = node.inputs[index]
    assert value is not None and value.constant is not None
    return value.constant


def _replace(node: Node, index: int, data: np.ndarray) -> None:
    old = node.inputs[index]
    assert old is not None and node.graph is not None
    node.set_input(index, node.graph.add_constant(data.astype(old.dtype.numpy), old.name))
