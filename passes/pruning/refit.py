"""The layers of a narrower model fitted anew, one after the other, to what those of the whole model return.

Both models run side by side, node by node, over a stack of samples. Each layer sees the operands that the narrower
model makes, fitted already as far as there, and its weights and bias become those of least squared error to the results
of the whole model, at the channels that stay (ridge regression on second moments, which sum over samples). Where a
result is only added to another branch, the sum is what is wanted: the layer makes up for that branch's error too.
Weights are drawn to what they were, the more the fewer samples there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.groups.links import Dimension
from graphopt.ir import Graph, Node, Value
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.rounding.matrices import (
    has_rows,
    operand_rows,
    result_rows,
    weight_rows,
    weights_from_rows,
)
from graphopt.passes.rounding.moments import Moments, damping_for, mean_squared_error, refitted
from graphopt.runtime.stacked import Environment, evaluate, forgetting, operands_of

DAMPING = 1e-3
"""How strongly weights are held at least, as a share of the operands' mean square."""


@dataclass(frozen=True)
class Fit:
    """What fitting did to a layer: the SQNR of its results in dB, on the same operands. `few` tells that there were
    fewer rows than weights of an output, so that what they leave open stays as it was."""

    layer: str
    before: float
    after: float
    few: bool


def refit(
    narrow: Graph,
    whole: Graph,
    kept: Kept,
    inputs: Environment,
    *,
    weights: bool = True,
    bias: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Fit]:
    """Change the constants of `narrow`, in place.

    `narrow` was shrunk from a copy of `whole`, node by node the same; `kept` has the dimensions of `whole`. `inputs`
    are stacks of samples for `whole`. Without `weights` the biases alone take the mean errors.
    """
    fits: list[Fit] = []

    def visit(node: Node, x: np.ndarray, target: np.ndarray) -> None:
        fits.append(fit_layer(node, x, target, weights=weights, bias=bias))

    run_beside(narrow, whole, kept, inputs, visit, progress)
    narrow.remove_unused_constants()
    return fits


Visit = Callable[[Node, np.ndarray, np.ndarray], None]
"""Gets a layer of the narrow model, a stack of its operands and one of the results that it should return; may change
its constants."""


def run_beside(
    narrow: Graph,
    whole: Graph,
    kept: Kept,
    inputs: Environment,
    visit: Visit,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Run both models on `inputs`, which are for `whole`; each layer is visited before it runs."""
    pairs = dict(zip(narrow.nodes, whole.nodes, strict=True))
    total, done = sum(1 for node in pairs if is_layer(node)), 0
    wanted = dict(inputs)
    made: Environment = dict(zip(narrow.inputs, (inputs[value] for value in whole.inputs), strict=True))
    for node, twin in zip(forgetting(narrow, made), forgetting(whole, wanted), strict=True):
        results = evaluate(twin, operands_of(twin, wanted), wanted)
        wanted.update(zip(twin.outputs, results, strict=False))
        operands = operands_of(node, made)
        if is_layer(node) and operands[0] is not None and operands[0].is_stack:
            if progress:
                progress("fitting", done, total)
            done += 1
            visit(node, operands[0].data, _target(node, twin, kept, wanted, made))
            operands = operands_of(node, made)
        made.update(zip(node.outputs, evaluate(node, operands, made), strict=False))


def is_layer(node: Node) -> bool:
    """Whether `node` is a product with constant weights that can be fitted."""
    value = node.input(1)
    if value is None or value.constant is None or not has_rows(node):
        return False
    return not node.is_op("Gemm") or (node.float("alpha", 1.0) == 1 and node.float("beta", 1.0) == 1)


def _target(node: Node, twin: Node, kept: Kept, wanted: Environment, made: Environment) -> np.ndarray:
    """The stack of results that the layer should return, at the channels that stay."""
    target = _staying(twin.output, kept, wanted)
    found = _branch_beside(node, twin)
    if found is None or found[1] not in wanted or (found[0].constant is None and found[0] not in made):
        return target
    ours, theirs = found
    error = _staying(theirs, kept, wanted) - (made[ours].data if ours.constant is None else ours.constant)
    return target + error if error.shape == target.shape else target


def _staying(value: Value, kept: Kept, environment: Environment) -> np.ndarray:
    operand = environment[value]
    data = operand.data
    for axis in range(value.rank or 0):
        dimension = Dimension(value, axis)
        if kept.changes(dimension):
            data = np.take(data, kept.indices(dimension), axis + operand.is_stack)
    return data


def _branch_beside(node: Node, twin: Node) -> tuple[Value, Value] | None:
    """What the result is added to, past a bias: the value of the narrow model and that of the whole one."""
    while True:
        uses = node.output.uses
        if len(uses) != 1 or node.output.is_graph_output or not uses[0].node.is_op("Add"):
            return None
        other = 1 - uses[0].index
        node, twin = uses[0].node, twin.output.uses[0].node
        ours, theirs = node.inputs[other], twin.inputs[other]
        if ours is not None and ours.constant is not None and theirs is not None and theirs.constant is None:
            return ours, theirs  # a branch that was taken out
        if ours is None or theirs is None or ours.shape != node.output.shape:
            if ours is None or ours.constant is None:
                return None
            continue
        if ours.constant is None:
            return ours, theirs


Shape = Callable[[np.ndarray, Moments], np.ndarray]
"""Rows of weights (g, m, k) of another form, near to given ones by the second moments of what they read."""


def fit_layer(
    node: Node,
    x: np.ndarray,
    target: np.ndarray,
    *,
    weights: bool = True,
    bias: bool = True,
    rank: int | None = None,
    shaped: Shape | None = None,
) -> Fit:
    """Fit the constants of one layer to a stack of operands and of results; with `rank`, to weights of that rank, and
    with `shaped` to what that makes of the fitted ones.

    Without `weights` they stay, or become their own nearest of that rank; `bias` lets the bias take the mean error.
    """
    value = node.inputs[1]
    assert value is not None and value.constant is not None
    wide, shape = target.astype(np.float32, copy=False), value.constant.shape
    rows = result_rows(node, wide)
    each = rows.shape[1] // len(x)
    raw = Moments.of((ours, _part(rows, chosen, each)) for chosen, ours in operand_rows(node, x, shape))
    place = _bias(node, raw.result_mean.size)
    inside = place is not None and place[0] is node
    old_bias = _numbers(node, place, raw.result_mean.size) if inside or node.op_type != "MatMul" else None
    before = weight_rows(node, value.constant.astype(np.float64))
    is_free = bias and place is not None
    moments = raw.about_mean() if is_free else raw
    after = before
    if weights and (is_free or old_bias is None or not old_bias.any()):
        after = refitted(moments, before, damping_for(moments, DAMPING))
    if rank is not None:
        after = nearest_of_rank(after, moments.operands, rank)
    if shaped is not None:
        after = shaped(after, moments)
    shift = raw.result_mean - (after * raw.operand_mean[:, None, :]).sum(-1)
    as_before = None if old_bias is None else old_bias.reshape(shift.shape)
    fit = Fit(
        node.origin.known_as(node.name),
        _decibels(raw, mean_squared_error(raw, before, as_before)),
        _decibels(raw, mean_squared_error(raw, after, shift if is_free else as_before)),
        raw.count < before.shape[-1],
    )
    if fit.after <= fit.before and rank is None and shaped is None:
        return fit
    if after is not before:
        _replace(node, 1, weights_from_rows(node, after, shape))
    if is_free and place is not None:
        made = shift.reshape(-1) if inside else shift.reshape(-1) + _numbers(node, place, shift.size)
        _write_bias(place, made)
    return fit


def nearest_of_rank(weights: np.ndarray, operands: np.ndarray, rank: int) -> np.ndarray:
    """The rows (g, m, k) of so many dimensions whose results differ least for operands with second moments (g, k, k).

    Results are projected on the directions in which they vary most: W' = V V^T W with the first eigenvectors V of
    W C W^T.
    """
    _, vectors = np.linalg.eigh(weights @ operands @ weights.transpose(0, 2, 1))
    leading = vectors[:, :, ::-1][:, :, :rank]
    return leading @ (leading.transpose(0, 2, 1) @ weights)


def _part(rows: np.ndarray, samples: slice, each: int) -> np.ndarray:
    start = None if samples.start is None else samples.start * each
    stop = None if samples.stop is None else samples.stop * each
    return rows[:, start:stop]


Place = tuple[Node, int]


def _bias(node: Node, channels: int) -> Place | None:
    """Which input of which node is the bias, or can be; of a product alone that of the addition behind."""
    if node.op_type != "MatMul":
        value = node.input(2)
        if value is None:
            return node, 2
        is_row = value.constant is not None and value.constant.size == channels == value.constant.shape[-1]
        return (node, 2) if is_row else None
    uses = node.output.uses
    if len(uses) != 1 or node.output.is_graph_output or not uses[0].node.is_op("Add"):
        return None
    reader, index = uses[0].node, 1 - uses[0].index
    value = reader.inputs[index]
    if value is None or value.constant is None or value.constant.size != channels:
        return None
    return (reader, index) if value.constant.shape[-1:] == (channels,) else None


def _numbers(node: Node, place: Place | None, channels: int) -> np.ndarray:
    value = None if place is None else place[0].input(place[1])
    if value is None or value.constant is None:
        return np.zeros(channels)
    return value.constant.reshape(-1).astype(np.float64)


def _write_bias(place: Place, numbers: np.ndarray) -> None:
    reader, index = place
    old = reader.input(index)
    if old is None:
        value = reader.inputs[1]
        assert reader.graph is not None and value is not None
        reader.set_input(index, reader.graph.add_constant(numbers.astype(value.dtype.numpy), "bias"))
        return
    assert old.constant is not None
    _replace(reader, index, numbers.reshape(old.constant.shape))


def _replace(node: Node, index: int, data: np.ndarray) -> None:
    old = node.inputs[index]
    assert old is not None and node.graph is not None
    node.set_input(index, node.graph.add_constant(data.astype(old.dtype.numpy), old.name))


def _decibels(moments: Moments, error: np.ndarray) -> float:
    noise, signal = float(error.sum()), float(moments.power.sum())
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else float("inf")
