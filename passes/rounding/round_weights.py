"""The weights of a quantised graph rounded anew, layer after layer, so that layers return what they did as floats.

The graph runs as floats and quantised at once (`graphopt.runtime.twofold`). Each layer sees the operands that the
quantised layers before it make, and is fitted to the float results: it makes up for what went before as far as it can.
Its bias takes what is left on the mean (empirical bias correction: Nagel et al. 2019). A layer inside a Scan is fitted
to all the steps at once; the errors of a recurrence's weights count as they reach its states (`through_time.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.layers import layer_name
from graphopt.passes.quantization.narrow_parameters import FEW
from graphopt.passes.rounding.effect import Effect, decibels
from graphopt.passes.rounding.layer import QuantisedLayer, layer_of
from graphopt.passes.rounding.matrices import operand_rows, result_rows, weight_rows
from graphopt.passes.rounding.methods import Method, SecondOrder
from graphopt.passes.rounding.moments import Moments, damped, damping_for, mean_squared_error, refitted
from graphopt.passes.rounding.search_range import search_range
from graphopt.passes.rounding.through_time import of_input_product, of_state_products
from graphopt.passes.sparsity.patterns import held_zeros
from graphopt.passes.sparsity.select import solved
from graphopt.runtime.stacked import Environment, Operand, Operands, evaluate, scan
from graphopt.runtime.twofold import Originals, Visit, run_twofold


@dataclass(frozen=True)
class Rounding:
    """How layers are fitted.

    `refit` moves weights of few bits before they are rounded, to make up for the errors of the operands; with 8 bits
    these are so small that the noise of the samples costs more. `damping` is how strongly weights are held at least, as
    a share of the operands' mean square. `correct_bias` takes means into the bias. `search_ranges` first narrows the
    ranges of operands where that helps.
    """

    method: Method = SecondOrder()
    refit: bool = True
    correct_bias: bool = True
    damping: float = 0.01
    search_ranges: bool = False


def round_weights(
    graph: Graph,
    inputs: Environment,
    originals: Originals,
    rounding: Rounding = Rounding(),
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Effect]:
    """Replace the integer weights, scales and biases of `graph`, in place.

    `inputs` are stacks of samples, `originals` the float weights behind the integers. Returns the effect on each layer.
    Raises UsageError for samples whose products are beyond float32.
    """
    total = sum(1 for node in graph.all_nodes() if layer_of(node) is not None)
    effects: list[Effect] = []

    def before(visit: Visit) -> None:
        if visit.node.is_op("QuantizeLinear"):
            if rounding.search_ranges and visit.quantised[0] is not None:
                search_range(visit.node, visit.quantised[0])
            return
        moments = _moments_through_time(visit, originals, rounding)
        for layer, operands, results in _layers_at(visit, originals):
            if progress:
                progress("rounding", len(effects), total)
            effects.append(_round(layer, operands, results, originals, rounding, moments.get(layer.node)))

    run_twofold(graph, inputs, originals, before)
    graph.remove_unused_constants()
    return effects


def _moments_through_time(visit: Visit, originals: Originals, rounding: Rounding) -> dict[Node, np.ndarray]:
    """Of the products of a recurrence, a matrix for each row of their weights."""
    if not isinstance(rounding.method, SecondOrder):
        return {}
    if visit.node.is_op("Scan"):
        return of_state_products(visit)
    moments = None if _roundable(visit.node, originals) is None else of_input_product(visit, originals)
    return {} if moments is None else {visit.node: moments}


def _layers_at(visit: Visit, originals: Originals) -> list[tuple[QuantisedLayer, np.ndarray, np.ndarray]]:
    """The layers of a node with stacks of their operands and of the results that are wanted."""
    layer = _roundable(visit.node, originals)
    if layer is not None:
        operand, result = visit.quantised[0], visit.results[0]
        return [(layer, operand.data, result.data)] if operand is not None and operand.is_stack else []
    return _layers_of_body(visit, originals) if visit.node.is_op("Scan") else []


def _layers_of_body(
    visit: Visit, originals: Originals
) -> list[tuple[QuantisedLayer, np.ndarray, np.ndarray]]:
    """The products of a Scan, each with what it reads in all steps; what the float weights make of it is wanted."""
    read: dict[Node, list[np.ndarray]] = defaultdict(list)

    def each(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
        first = operands[0] if operands else None
        if first is not None and first.is_stack and _roundable(node, originals) is not None:
            read[node].append(first.data)
        return evaluate(node, operands, environment)

    scan(visit.node, visit.quantised, visit.environment, each)
    found = []
    for node, steps in read.items():
        layer = _roundable(node, originals)
        assert layer is not None
        operands = np.stack(steps, axis=1)
        weights = weight_rows(node, originals[layer.weights])[0]
        found.append((layer, operands, operands @ weights.T))
    return found


def _roundable(node: Node, originals: Originals) -> QuantisedLayer | None:
    layer = layer_of(node)
    return layer if layer is not None and layer.weights in originals else None


def _round(
    layer: QuantisedLayer,
    operands: np.ndarray,
    results: np.ndarray,
    originals: Originals,
    rounding: Rounding,
    of_rows: np.ndarray | None,
) -> Effect:
    node, weights = layer.node, originals[layer.weights]
    wanted = result_rows(node, results)
    per_sample = wanted.shape[1] // len(operands)
    with np.errstate(over="ignore", invalid="ignore"):  # told below, by name
        raw = Moments.of(
            (rows, _part(wanted, chosen, per_sample))
            for chosen, rows in operand_rows(node, operands, weights.shape)
        )
    if not (np.isfinite(raw.operands).all() and np.isfinite(raw.both).all()):
        raise UsageError(
            f"it reads numbers up to {np.abs(operands).max():.3g}, whose products are beyond float32",
            where=f"node '{node.origin.known_as(node.name)}'",
            hint="scale the samples, or fit no weights to them (--methods none, or methods='none')",
        )
    is_inside = layer.bias is not None and layer.bias[0] is node
    bias = layer.bias_data.reshape(raw.result_mean.shape) if layer.bias is not None and is_inside else None
    grid, before = layer.grid, layer.grid.values(layer.integers)
    is_free = layer.bias is not None and rounding.correct_bias
    moments = raw.about_mean() if is_free else raw
    floats = weight_rows(node, weights.astype(np.float64))
    held = held_zeros(floats)
    damping = damping_for(moments, rounding.damping)
    if rounding.refit and grid.bits < FEW and (bias is None or is_free):
        floats = refitted(moments, floats, damping)
        if held is not None:
            floats = solved(floats, damped(moments.operands, damping, moments.rounding), ~held)
    if of_rows is None:
        hessian = damped(moments.operands, damping, moments.rounding)
        integers, chosen_grid = rounding.method(floats, hessian, grid, layer.has_one_scale, held)
    else:
        hessian = damped(_mixed(of_rows, moments.operands), damping, moments.rounding)
        method = rounding.method
        if isinstance(method, SecondOrder):
            method = replace(method, widest=1)
        integers, chosen_grid = method(
            floats.swapaxes(0, 1),
            hessian,
            grid.swapped(),
            layer.has_one_scale,
            None if held is None else held.swapaxes(0, 1),
        )
        integers, chosen_grid = integers.swapaxes(0, 1), chosen_grid.swapped()
    made = chosen_grid.values(integers)
    shift = raw.result_mean - (made * raw.operand_mean[:, None, :]).sum(-1)
    new_bias = None
    if is_free:
        new_bias = (shift if is_inside else layer.bias_data.reshape(shift.shape) + shift).reshape(-1)
    effect = Effect(
        layer_name(node),
        _decibels(raw, mean_squared_error(raw, before, bias)),
        _decibels(raw, mean_squared_error(raw, made, shift if is_free else bias)),
    )
    layer.replace(integers, chosen_grid, new_bias)
    return effect


def _mixed(of_rows: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The mean of each row's matrix and of `moments` for all rows, with the same trace.

    Gradients of few samples are rough: alone they lost to rounding to nearest at 4 bits on 24 samples. For the same
    reason these rows are not searched widely: the best by a rough measure is no better.
    """
    trace, wanted = np.trace(of_rows, axis1=1, axis2=2), np.trace(moments, axis1=1, axis2=2)
    share = np.divide(wanted, trace, out=np.zeros_like(trace), where=trace > 0)[:, None, None]
    return (of_rows * share + moments) / 2


def _part(rows: np.ndarray, samples: slice, per_sample: int) -> np.ndarray:
    start = None if samples.start is None else samples.start * per_sample
    stop = None if samples.stop is None else samples.stop * per_sample
    return rows[:, start:stop]


def _decibels(moments: Moments, error: np.ndarray) -> float:
    return decibels(moments.power.sum(), error.sum())
