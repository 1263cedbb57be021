"""Biases that take the mean error which rounded weights are expected to make, without a look at the results.

    y' = (W + d) x + b        E y' - E y = d E x        b' = b - d E x

E x is that of the float model's channels: what batch normalisations say (`expectations.py`), or means over samples. The
errors of operands are left out. Empirical correction (`round_weights.py`) takes those in, and needs samples.

Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, 4.2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.layers import layer_name
from graphopt.passes.rounding.effect import Effect, decibels
from graphopt.passes.rounding.expectations import Expectation, expectations
from graphopt.passes.rounding.layer import QuantisedLayer, layer_of
from graphopt.passes.rounding.matrices import weight_rows
from graphopt.runtime.stacked import Environment, Operand, Operands, run
from graphopt.runtime.twofold import Originals, float_evaluator


def correct_biases(graph: Graph, originals: Originals, operands: Mapping[Node, Expectation]) -> list[Effect]:
    """Change the biases of a quantised graph, in place.

    `operands` are mean and variance of the channels that layers read. Returns what each layer's SQNR is expected to be,
    operands taken for exact and independent.
    """
    effects = []
    for node in graph.all_nodes():
        layer = layer_of(node)
        known = operands.get(node)
        if layer is not None and layer.bias is not None and layer.weights in originals and known is not None:
            effects.append(_correct(layer, originals[layer.weights], known))
    graph.remove_unused_constants()
    return effects


def expected_operands(
    floats: Graph, quantised: Graph, known: Mapping[str, Expectation]
) -> dict[Node, Expectation]:
    """What layers of `quantised` read, from what is `known` of values of the float graph by their names."""
    found = expectations(floats, known)
    named = {node.output.name: node for node in floats.nodes if node.outputs}
    read = {}
    for node in quantised.nodes:
        twin = named.get(node.output.name) if layer_of(node) is not None else None
        first = None if twin is None else twin.input(0)
        if first is not None and first in found:
            read[node] = _of_channels(node, found[first])
    return read


def observed_operands(graph: Graph, inputs: Environment, originals: Originals) -> dict[Node, Expectation]:
    """What layers of a quantised graph read where it runs as floats on stacks of samples."""
    sums: dict[Node, list[Expectation]] = defaultdict(list)
    as_floats = float_evaluator(originals)

    def each(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
        first = operands[0] if operands else None
        if first is not None and first.is_stack and layer_of(node) is not None:
            data = first.data.reshape(-1, *first.data.shape[2:])
            sums[node].append(_of_channels(node, Expectation(data, np.zeros((), data.dtype))))
        return as_floats(node, operands, environment)

    constants = {value: Operand(data, False) for value, data in originals.items() if value.is_constant}
    run(graph, {**inputs, **constants}, each)
    return {node: _pooled(parts) for node, parts in sums.items()}


def _pooled(parts: list[Expectation]) -> Expectation:
    """Of all steps of a Scan, of equally many numbers each."""
    means, variances = (np.stack([getattr(part, name) for part in parts]) for name in ("mean", "variance"))
    return Expectation(means.mean(0), (variances + means**2).mean(0) - means.mean(0) ** 2)


def _of_channels(node: Node, operand: Expectation) -> Expectation:
    return operand.along(1 if node.is_op("Conv") else -1)


def _correct(layer: QuantisedLayer, weights: np.ndarray, operand: Expectation) -> Effect:
    node = layer.node
    wanted = weight_rows(node, weights.astype(np.float64))
    error = layer.grid.values(layer.integers) - wanted
    mean, variance = (_along_rows(x, wanted.shape) for x in (operand.mean, operand.variance))
    shift = (error * mean).sum(-1)
    noise, bias = (error**2 * variance).sum(-1), layer.bias_data.reshape(shift.shape)
    signal = (wanted**2 * variance).sum() + np.square((wanted * mean).sum(-1) + bias).sum()
    layer.replace(layer.integers, layer.grid, (bias - shift).reshape(-1))
    return Effect(
        layer_name(node),
        decibels(signal, (noise + shift**2).sum()),
        decibels(signal, noise.sum()),
    )


def _along_rows(channels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number for each weight of the rows (g, m, k): that of its input channel."""
    groups, _, size = shape
    taps = groups * size // len(channels)
    return np.repeat(channels.reshape(groups, 1, -1), taps, axis=-1)
