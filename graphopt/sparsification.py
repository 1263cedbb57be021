"""Sparse weights: from a model and samples to the same model with most of its weights zero.

    result = graphopt.sparsify("model.onnx", "samples.npz:images", ratio=0.9)
    write_model(result.graph, "model.sparse.onnx")

Layers are done one after the other, each from the operands that those before it make, so that it makes up for their
errors too. Within a layer second moments of what it reads tell which weights can go, and the others take their place
(`graphopt.passes.sparsity.select`). Neither labels nor training code are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.cost import cost_of_graph
from graphopt.api import Progress, load, optimize
from graphopt.block_pruning import error_share, outputs_of_stacks
from graphopt.compression import Change, change, samples_of
from graphopt.errors import UsageError
from graphopt.evaluate import Judge
from graphopt.ir import Graph, Node
from graphopt.passes import PRUNABLE
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.pruning.observed import observe_layers
from graphopt.passes.pruning.refit import Fit, fit_layer, run_beside
from graphopt.passes.rounding.moments import Moments, damped, damping_for
from graphopt.passes.sparsify import Sparsify, checked_ratio
from graphopt.passes.sparsity.layers import LEVELS, Layer, lost_magnitudes, ratios, sparse_layers
from graphopt.passes.sparsity.patterns import UNSTRUCTURED, Pattern
from graphopt.passes.sparsity.select import curve, lost_share, solved, sparse
from graphopt.quality import labels_of
from graphopt.quantization import refuse_quantised
from graphopt.rewrite import Statistics
from graphopt.runtime.stacked import Environment, Operand
from graphopt.sensitivity import Task
from graphopt.targets.device import Target, load_target

if TYPE_CHECKING:
    import onnx

SAMPLES = 2048
"""Looked at, at most."""

LOOKED_AT, FEWEST = 128, 4
"""Samples on which layers are tried one by one, at most and at least."""

WORK = 1e12
"""Multiplications that trying layers may take."""

PROBED = 0.8
"""The share of zeros at which layers are tried."""

LEAST = 1e-12
"""Of a loss that others are divided by."""

DAMPING = 0.01
"""How strongly weights are held at least, as a share of the operands' mean square."""


@dataclass(frozen=True)
class Sparse:
    """A layer's weights, and how many of them are zero; `reason` tells why it stayed as it was."""

    name: str
    weights: int
    zeros: int
    reason: str = ""

    @property
    def ratio(self) -> float:
        return self.zeros / self.weights


@dataclass(frozen=True)
class SparsifyResult:
    """The graph with zeros, what became of each layer, and what that changed."""

    graph: Graph
    layers: tuple[Sparse, ...]
    pattern: str
    change: Change
    fits: tuple[Fit, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The share of zeros among the weights of all layers."""
        return sum(layer.zeros for layer in self.layers) / sum(layer.weights for layer in self.layers)


def sparsify(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    data: object = None,
    *,
    ratio: float | None = None,
    threshold: float | None = None,
    pattern: str = UNSTRUCTURED,
    per_layer: bool = False,
    exclude: Sequence[str] = (),
    labels: object = None,
    metric: str | None = None,
    evaluate: Judge | str | None = None,
    preprocess: str | None = None,
    limit: int | None = None,
    measure: bool = False,
    target: str | Path | Target | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> SparsifyResult:
    """Make weights of `model` zero and let the others make up for them.

    `ratio` is the share of zeros among all weights of the layers, or of each with `per_layer`; `threshold` makes those
    of less magnitude zero. `pattern` is "unstructured", N of M such as "2:4", which says the ratio itself, or blocks
    such as "1x4" (`graphopt.passes.sparsity.patterns`). `data` may have any form that `graphopt.data.open_samples`
    takes; without, magnitudes decide and nothing makes up for them. The other parameters are those of
    `graphopt.prune`.

    Raises UsageError for shares that are none, data that do not fit, and where nothing can become sparse.
    """
    form = Pattern.parse(pattern)
    share = checked_ratio(form, ratio, threshold)
    task = Task(data, labels, metric or Task.metric, evaluate, preprocess, limit)
    if data is None and (measure or task.has_metric):
        raise UsageError(
            "nothing to measure on, and there are no samples", where="data", hint="give --data, or data"
        )
    task.check()
    machine = target if isinstance(target, Target) else load_target(str(target or "host"))
    original = model if isinstance(model, Graph) else load(model, input_shapes=input_shapes)
    refuse_quantised(original)
    if task.labels is not None:
        labels_of(task, task.samples(original))
    if progress:
        progress("optimising", 0, 1)
    graph = optimize(original, PRUNABLE)
    layers = sparse_layers(graph, form, exclude)
    stacks, count = samples_of(graph, task, SAMPLES) if data is not None else ({}, 0)
    if stacks:
        shares = None if share is None else _shares(graph, layers, stacks, form, share, per_layer, progress)
        made, fits = _compensated(graph, layers, stacks, form, shares, threshold, progress)
    else:
        made, fits = graph.clone(), []
        Sparsify(ratio or 0.0, threshold or 0.0, pattern, per_layer, tuple(exclude)).run(made, Statistics())
    is_measured = measure or task.has_metric
    changed = change(graph, made, task, count, machine, measure=is_measured, progress=progress)
    told = _told(layers, made)
    return SparsifyResult(made, told, form.name, changed, tuple(fits), tuple(_notes(fits)))


def _shares(
    graph: Graph,
    layers: Sequence[Layer],
    stacks: Environment,
    pattern: Pattern,
    share: float,
    per_layer: bool,
    progress: Progress | None,
) -> dict[Layer, float]:
    """How many of each layer go: as many of each, or so that the shares of energy that layers lose add up to least."""
    free = [layer for layer in layers if not layer.reason]
    if per_layer or pattern.fixed_ratio is not None:
        return dict.fromkeys(free, share)
    observed = observe_layers(graph, dict(stacks), {layer.node for layer in free})
    probe = _Probe(graph, stacks, len(free))
    lost = {}
    for number, layer in enumerate(free):
        if progress:
            progress("weighing layers", number, len(free))
        if layer.node not in observed:
            lost[layer] = lost_magnitudes(np.square(layer.rows()), pattern)
            continue
        rows, hessian = layer.rows(), _hessian(layer, observed[layer.node].about_mean())
        made = sparse(rows, hessian, pattern, PROBED)
        factor = probe.error(layer, made) / max(lost_share(rows, made, hessian), LEAST)
        lost[layer] = [factor * share for share in curve(rows, hessian, pattern, LEVELS)]
    return ratios(lost, share)


class _Probe:
    """The model on a few samples, with one layer sparse and all others as they were."""

    def __init__(self, graph: Graph, stacks: Environment, layers: int) -> None:
        work = max(layers * (cost_of_graph(graph).macs or 0), 1)
        count = max(min(LOOKED_AT, int(WORK // work)), FEWEST)
        self._graph = graph
        self._stacks = {value: Operand(o.data[:count], o.is_stack) for value, o in stacks.items()}
        self._wanted = outputs_of_stacks(graph, graph, self._stacks)

    def error(self, layer: Layer, rows: np.ndarray) -> float:
        """Of the model's outputs, as a share of their energy."""
        copy = self._graph.clone()
        nodes = dict(zip(self._graph.nodes, copy.nodes, strict=True))
        replace(layer, node=nodes[layer.node]).written(rows)
        return error_share(self._wanted, outputs_of_stacks(copy, self._graph, self._stacks))


def _hessian(layer: Layer, moments: Moments) -> np.ndarray:
    """Of a layer's rows, in the order in which patterns run."""
    hessian = damped(moments.operands, damping_for(moments, DAMPING), moments.rounding)
    return layer.ordered(layer.ordered(hessian).transpose(0, 2, 1)).transpose(0, 2, 1)


def _compensated(
    graph: Graph,
    layers: Sequence[Layer],
    stacks: Environment,
    pattern: Pattern,
    shares: Mapping[Layer, float] | None,
    threshold: float | None,
    progress: Progress | None,
) -> tuple[Graph, list[Fit]]:
    """A copy of `graph` whose layers are sparse, and fitted on the way."""
    copy = graph.clone()
    nodes = dict(zip(graph.nodes, copy.nodes, strict=True))
    by_node = {nodes[layer.node]: layer for layer in layers if not layer.reason}
    fits: list[Fit] = []

    def visit(node: Node, x: np.ndarray, target: np.ndarray) -> None:
        layer = by_node.get(node)
        if layer is None:
            fits.append(fit_layer(node, x, target))
            return
        chosen = layer

        def shaped(rows: np.ndarray, moments: Moments) -> np.ndarray:
            wanted, hessian = chosen.ordered(rows), _hessian(chosen, moments)
            if shares is None:
                made = solved(wanted, hessian, np.abs(chosen.rows()) >= (threshold or 0.0))
            else:
                made = sparse(wanted, hessian, pattern, shares[chosen])
            return chosen.restored(made)

        fits.append(fit_layer(node, x, target, shaped=shaped))

    run_beside(copy, graph, Kept({}), stacks, visit, progress)
    copy.remove_unused_constants()
    return copy, fits


def _told(layers: Sequence[Layer], made: Graph) -> tuple[Sparse, ...]:
    found = []
    nodes = {node.name: node for node in made.nodes}
    for layer in layers:
        value = nodes[layer.node.name].inputs[1]
        assert value is not None and value.constant is not None
        zeros = int((value.constant == 0).sum())
        found.append(Sparse(layer.name, layer.count, zeros, layer.reason))
    return tuple(found)


def _notes(fits: Sequence[Fit]) -> list[str]:
    few = [fit.layer for fit in fits if fit.few]
    if not few:
        return []
    more = f" and {len(few) - 1} more" if len(few) > 1 else ""
    return [
        f"layer '{few[0]}'{more} has more weights for an output than samples: they are held to what they were"
    ]
