"""Means and variances of the values of a float graph that no sample has shown.

A batch normalisation says how its results are distributed: normally, about beta with the deviation |gamma|. From there
means go on through the graph:

    Relu, Clip      the moments of a clipped normal distribution, in closed form
    others          element by element, at 64 quantiles of the normal distribution
    products, sums  W E x + b and W^2 Var x, as if what is summed were independent; the sum taken as normal
    moves, means    as they treat any number

What is behind anything else is not known until the next batch normalisation.

Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, 4.2 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.operators import UNARY, is_float, is_lookup, is_move
from graphopt.runtime.stacked_operators import evaluated

QUANTILES = 64
MEANS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Expectation:
    """Mean and variance of the numbers of a value, broadcast to its shape; or of its channels."""

    mean: np.ndarray
    variance: np.ndarray

    def along(self, axis: int) -> Expectation:
        """Those of the channels on an axis."""
        others = tuple(place for place in range(self.mean.ndim) if place != axis % self.mean.ndim)
        mean = self.mean.mean(others)
        return Expectation(mean, np.maximum((self.variance + self.mean**2).mean(others) - mean**2, 0))


def normalised(graph: Graph) -> dict[str, Expectation]:
    """By channel, for the names of what batch normalisations with known statistics make."""
    found = {}
    for node in graph.nodes:
        if not node.is_op("BatchNormalization") or node.int("training_mode"):
            continue
        gamma, beta = (None if v is None else v.constant for v in node.inputs[1:3])
        if gamma is not None and beta is not None and np.isfinite(gamma).all() and np.isfinite(beta).all():
            wide = gamma.astype(np.float64)
            found[node.output.name] = Expectation(beta.astype(np.float64), wide**2)
    return found


def expectations(graph: Graph, known: Mapping[str, Expectation]) -> dict[Value, Expectation]:
    """Those of all values that follow from the `known` ones, channels of a second axis, by their names."""
    found: dict[Value, Expectation] = {}
    for node in graph.nodes:
        made = None
        if len(node.outputs) == 1 and is_float(node.output) and node.output.is_static:
            made = _given(node.output, known) or _through(node, found)
        if made is not None:
            found[node.output] = made
    return found


def _given(value: Value, known: Mapping[str, Expectation]) -> Expectation | None:
    given, shape = known.get(value.name), value.static_shape
    if given is None or len(shape) < 2 or shape[1] != len(given.mean):
        return None
    wide = (1, -1, *(1,) * (len(shape) - 2))
    return Expectation(given.mean.reshape(wide), given.variance.reshape(wide))


def _through(node: Node, found: Mapping[Value, Expectation]) -> Expectation | None:
    """What a node makes of what is known, if anything is."""
    first = node.input(0)
    known = None if first is None else found.get(first)
    if node.is_op("Add"):
        return _sum(node, found)
    if known is None or is_lookup(node):
        return None
    if node.is_op(*PRODUCTS):
        return _product(node, known)
    if is_move(node) or node.is_op(*MEANS):
        return _moved(node, known, found)
    if not node.is_op(*UNARY) or any(v is not None and v.constant is None for v in node.inputs[1:]):
        return None
    if node.is_op("Relu"):
        return clipped(known, 0.0, math.inf)
    if node.is_op("Clip"):
        low, high = (None if v is None else v.scalar() for v in (node.input(1), node.input(2)))
        return clipped(
            known, -math.inf if low is None else float(low), math.inf if high is None else float(high)
        )
    return _by_quantiles(node, known)


def clipped(normal: Expectation, low: float, high: float) -> Expectation:
    """Of clip(x, low, high) for a normal x."""
    mean, deviation = normal.mean, np.sqrt(normal.variance)
    safe = np.where(deviation > 0, deviation, 1.0)
    (under, under_density), (over, over_density) = (_normal((end - mean) / safe) for end in (low, high))
    inside = over - under
    # Of x where it lies between the ends, and of its square.
    first = mean * inside + safe * (under_density - over_density)
    second = (mean**2 + safe**2) * inside
    second = second + safe * (_end(mean, low, under_density) - _end(mean, high, over_density))
    for end, share in ((low, under), (high, 1 - over)):
        if math.isfinite(end):
            first, second = first + end * share, second + end**2 * share
    exact = np.clip(mean, low, high)
    varies = deviation > 0
    return Expectation(
        np.where(varies, first, exact), np.where(varies, np.maximum(second - first**2, 0.0), 0.0)
    )


def _end(mean: np.ndarray, end: float, density: np.ndarray) -> np.ndarray | float:
    return (mean + end) * density if math.isfinite(end) else 0.0


def _normal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function and the density of a standard normal variable."""
    below = 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))
    return below, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _by_quantiles(node: Node, known: Expectation) -> Expectation:
    deviation = np.sqrt(known.variance)
    others = [None if v is None else v.constant for v in node.inputs[1:]]
    first, second = np.zeros(known.mean.shape), np.zeros(known.mean.shape)
    for k in range(QUANTILES):
        x = known.mean + NormalDist().inv_cdf((k + 0.5) / QUANTILES) * deviation
        made = evaluated(node, [x.astype(np.float32), *others])[0].astype(np.float64)
        first += made / QUANTILES
        second += made**2 / QUANTILES
    return Expectation(first, np.maximum(second - first**2, 0.0))


def _sum(node: Node, found: Mapping[Value, Expectation]) -> Expectation | None:
    parts = [_of(value, found) for value in node.inputs]
    if any(part is None for part in parts):
        return None
    first, second = (part for part in parts if part is not None)
    return Expectation(first.mean + second.mean, first.variance + second.variance)


def _product(node: Node, known: Expectation) -> Expectation | None:
    """As if the numbers that are summed were independent."""
    weights, bias = node.input(1), node.input(2)
    if weights is None or weights.constant is None or (bias is not None and bias.constant is None):
        return None
    if node.is_op("Gemm") and (node.float("alpha", 1.0), node.float("beta", 1.0)) != (1.0, 1.0):
        return None
    mean, variance = _whole(node, known)
    added = [] if bias is None or bias.constant is None else [bias.constant]
    return Expectation(
        _run(node, [mean, weights.constant, *added]),
        _run(node, [variance, np.square(weights.constant), *map(np.zeros_like, added)]),
    )


def _moved(node: Node, known: Expectation, found: Mapping[Value, Expectation]) -> Expectation | None:
    """A mean of numbers that depend on each other varies as one of them does, at most."""
    if node.is_op("Concat"):
        parts = [None if value is None else found.get(value) for value in node.inputs]
        if any(part is None for part in parts):
            return None
        shapes = [value.static_shape for value in node.inputs if value is not None]
        means, variances = (
            [np.broadcast_to(getattr(part, name), shape) for part, shape in zip(parts, shapes, strict=True)]
            for name in ("mean", "variance")
        )
        return Expectation(_run(node, means), _run(node, variances))
    if any(value is not None and value.constant is None for value in node.inputs[1:]):
        return None
    others = [None if value is None else value.constant for value in node.inputs[1:]]
    mean, variance = _whole(node, known)
    return Expectation(_run(node, [mean, *others]), _run(node, [variance, *others]))


def _whole(node: Node, known: Expectation) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every number that a node reads."""
    value = node.inputs[0]
    assert value is not None
    shape = value.static_shape
    return np.broadcast_to(known.mean, shape), np.broadcast_to(known.variance, shape)


def _run(node: Node, arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    narrow = [a.astype(np.float32) if a is not None and a.dtype == np.float64 else a for a in arrays]
    return evaluated(node, narrow)[0].astype(np.float64)


def _of(value: Value | None, found: Mapping[Value, Expectation]) -> Expectation | None:
    if value is None or value.constant is None:
        return None if value is None else found.get(value)
    data = value.constant.astype(np.float64)
    return Expectation(data, np.zeros(data.shape))
