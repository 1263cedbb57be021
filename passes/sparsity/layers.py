"""The layers of a graph whose weights can become zeros, and how many of each do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph, Node
from graphopt.passes.pruning.refit import is_layer
from graphopt.passes.rounding.matrices import weight_rows, weights_from_rows
from graphopt.passes.sparsity.patterns import Pattern, along_inputs, inputs_of_tap

SHOWN = 5


@dataclass(frozen=True, eq=False)
class Layer:
    """A product with weights of its own; `reason` tells why they stay as they are."""

    node: Node
    name: str
    shape: tuple[int, ...]
    reason: str = ""

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    def rows(self) -> np.ndarray:
        """The weights (g, m, k) in float64, those of a tap side by side."""
        value = self.node.inputs[1]
        assert value is not None and value.constant is not None
        return self.ordered(weight_rows(self.node, value.constant.astype(np.float64)))

    def ordered(self, rows: np.ndarray) -> np.ndarray:
        """Rows (..., k) of the layer in the order in which patterns run."""
        order = along_inputs(self.node, self.shape)
        return rows if order is None else rows[..., order]

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of `ordered`."""
        order = along_inputs(self.node, self.shape)
        return rows if order is None else rows[..., np.argsort(order)]

    def written(self, rows: np.ndarray) -> None:
        """Make ordered `rows` the weights of the node."""
        old = self.node.inputs[1]
        assert old is not None and self.node.graph is not None
        data = weights_from_rows(self.node, self.restored(rows), self.shape).astype(old.dtype.numpy)
        self.node.set_input(1, self.node.graph.add_constant(data, old.name))


def sparse_layers(graph: Graph, pattern: Pattern, exclude: Sequence[str] = ()) -> list[Layer]:
    """All layers of `graph`, with a reason where one stays. Raises UsageError where all do, or a name fits none."""
    layers = [_layer(node, pattern) for node in graph.nodes if is_layer(node)]
    for pattern_of_name in exclude:
        fitting = [layer for layer in layers if _fits(pattern_of_name, layer)]
        if not fitting:
            known = [layer.name for layer in layers]
            more = ", ..." if len(known) > SHOWN else ""
            hint = did_you_mean(pattern_of_name, known, f"layers: {', '.join(known[:SHOWN]) or 'none'}{more}")
            raise UsageError(f"there is no layer '{pattern_of_name}'", where="exclude", hint=hint)
        layers = [
            Layer(layer.node, layer.name, layer.shape, "it is excluded") if layer in fitting else layer
            for layer in layers
        ]
    if all(layer.reason for layer in layers):
        told = layers[0].reason if layers else "it has no layer with constant weights"
        raise UsageError(f"nothing can become sparse: {told}", hint="exclude less, or choose another pattern")
    return layers


LEVELS = (0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.775, 0.85, 0.9, 0.94, 0.965, 0.98)
"""Shares of zeros at which layers are looked at; the last is the largest that any gets."""


def ratios(losses: Mapping[Layer, Sequence[float]], ratio: float) -> dict[Layer, float]:
    """The share of zeros of each layer, `ratio` of all weights, so that what is lost adds up to least.

    `losses` are comparable, at each of `LEVELS`. Every layer goes down the convex hull of its own, the cheapest step of
    all next (Shoham and Gersho 1988); the last step is taken in part.
    """
    wanted = min(ratio, LEVELS[-1]) * sum(layer.count for layer in losses)
    shares = dict.fromkeys(losses, 0.0)
    steps = [step for layer, found in losses.items() for step in _steps(layer, found)]
    for _, layer, level in sorted(steps, key=lambda step: step[0]):
        gained = (level - shares[layer]) * layer.count
        if gained >= wanted:
            shares[layer] += wanted / layer.count
            break
        shares[layer], wanted = level, wanted - gained
    return shares


def _steps(layer: Layer, losses: Sequence[float]) -> Iterator[tuple[float, Layer, float]]:
    """Prices of a weight, ascending, and how far each leads."""
    at = 0
    while at < len(LEVELS) - 1:
        slopes = [
            (losses[to] - losses[at]) / ((LEVELS[to] - LEVELS[at]) * layer.count)
            for to in range(at + 1, len(LEVELS))
        ]
        least = min(range(len(slopes)), key=lambda k: (slopes[k], -k))
        at += least + 1
        yield slopes[least], layer, LEVELS[at]


def lost_magnitudes(squares: np.ndarray, pattern: Pattern) -> list[float]:
    """What of the sum of `squares` (g, m, k) is lost at each of `LEVELS`."""
    total = max(float(squares.sum()), np.finfo(np.float64).tiny)
    return [1 - float(squares[pattern.kept(squares, level)].sum()) / total for level in LEVELS]


def _layer(node: Node, pattern: Pattern) -> Layer:
    value = node.inputs[1]
    assert value is not None and value.constant is not None
    name, shape = node.origin.known_as(node.name), value.constant.shape
    if len(value.uses) > 1:
        return Layer(node, name, shape, "another node reads its weights")
    inputs = inputs_of_tap(node, shape)
    if not pattern.fits(inputs):
        return Layer(node, name, shape, f"{inputs} inputs are no multiple of {pattern.length}")
    return Layer(node, name, shape)


def _fits(pattern: str, layer: Layer) -> bool:
    names = {layer.name, layer.node.name, *layer.node.origin.sources}
    return any(pattern == name or fnmatchcase(name, pattern) for name in names)
