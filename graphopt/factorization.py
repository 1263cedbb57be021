"""Low-rank factorisation: dense layers as products of two thinner ones, weighted by what they read.

    result = graphopt.factorize("model.onnx", "samples.npz:images", parameters=0.25)
    write_model(result.graph, "model.small.onnx")

Of a layer y = W x, what matters of W is where x varies: results are projected on the directions in which they vary most
over the samples (`graphopt.passes.pruning.refit.nearest_of_rank`). Layers are done one after the other, each from the
operands that those before it make, so that it makes up for their errors. Pairs that are slower than the layer they
replace are left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.api import Progress, load, optimize
from graphopt.compression import Change, change, samples_of
from graphopt.errors import UsageError
from graphopt.evaluate import Judge
from graphopt.integer_speed import least_seconds
from graphopt.ir import Graph, Node
from graphopt.ir.types import DType, TensorType
from graphopt.passes import PRUNABLE
from graphopt.passes.factorization.dense import Dense, dense_layers, split
from graphopt.passes.factorization.ranks import Spectrum
from graphopt.passes.factorize_dense import AIMS, chosen, factorable, one_aim
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.pruning.observed import observe_layers
from graphopt.passes.pruning.refit import Fit, fit_layer, run_beside
from graphopt.quality import labels_of
from graphopt.quantization import refuse_quantised
from graphopt.runnable import runnable
from graphopt.runtime.stacked import Environment
from graphopt.sensitivity import Task
from graphopt.targets.device import Target, load_target

if TYPE_CHECKING:
    import onnx

SAMPLES = 1024
"""Looked at, at most."""

SECONDS = 0.05
"""How long a layer and the pair in its place are timed."""

LANES_OF = 32


@dataclass(frozen=True)
class Factored:
    """A dense layer of `inputs` by `outputs`. `rank` is None where it stays, for `reason`."""

    name: str
    inputs: int
    outputs: int
    rank: int | None
    reason: str = ""


@dataclass(frozen=True)
class FactorizeResult:
    """The graph with factors, what became of each dense layer, and what that changed."""

    graph: Graph
    layers: tuple[Factored, ...]
    change: Change
    fits: tuple[Fit, ...] = ()
    notes: tuple[str, ...] = ()


def factorize(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    data: object = None,
    *,
    parameters: float | None = None,
    energy: float | None = None,
    error: float | None = None,
    even_if_slower: bool = False,
    multiple: int | None = None,
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
) -> FactorizeResult:
    """Factorise the dense layers of `model`.

    One aim is given: `parameters` as the share of the dense layers' weights that is to be left, `energy` as that of
    each layer's results that is to stay, or `error` as that which may be lost, as root mean squares. With `data` (any
    form that `graphopt.data.open_samples` takes) results on samples count and layers are fitted, else the weights' own
    singular values. Where `target` is this machine's kind each pair is timed beside its layer; `even_if_slower` takes
    it anyhow. The other parameters are those of `graphopt.prune`.

    Raises UsageError for shares that are none, data that do not fit, and where there is nothing to factorise.
    """
    given = {
        name: share
        for name, share in zip(AIMS, (parameters, energy, error), strict=True)
        if share is not None
    }
    aim, share = one_aim(given)
    task = Task(data, labels, metric or Task.metric, evaluate, preprocess, limit)
    if data is None and (measure or task.has_metric):
        raise UsageError(
            "nothing to measure on, and there are no samples", where="data", hint="give --data, or data"
        )
    task.check()
    machine = target if isinstance(target, Target) else load_target(str(target or "host"))
    lanes = max(machine.vector_bits // LANES_OF, 1) if multiple is None else multiple
    if lanes < 1:
        raise UsageError(f"{lanes} is no multiple", where="multiple", hint="write 1 or more")
    original = model if isinstance(model, Graph) else load(model, input_shapes=input_shapes)
    refuse_quantised(original)
    if task.labels is not None:
        labels_of(task, task.samples(original))
    if progress:
        progress("optimising", 0, 1)
    graph = optimize(original, PRUNABLE)
    layers = factorable(graph, exclude)
    stacks, count = samples_of(graph, task, SAMPLES) if data is not None else ({}, 0)
    ranks = chosen(_spectra(graph, layers, stacks), aim, share, lanes)
    slower = {} if even_if_slower or not machine.is_native else _slower(ranks, progress)
    ranks = {layer: rank for layer, rank in ranks.items() if layer not in slower}
    factored, fits = _factored(graph, ranks, stacks, progress)
    notes = (
        []
        if machine.is_native or even_if_slower
        else [f"pairs were not timed: {machine.name} is another machine"]
    )
    is_measured = measure or task.has_metric
    changed = change(graph, factored, task, count, machine, measure=is_measured, progress=progress)
    told = [_told(layer, ranks.get(layer), slower.get(layer, "")) for layer in layers]
    return FactorizeResult(factored, tuple(told), changed, tuple(fits), tuple(notes))


def _spectra(graph: Graph, layers: Sequence[Dense], stacks: Environment) -> list[Spectrum]:
    if not stacks:
        return [Spectrum.of(layer) for layer in layers]
    observed = observe_layers(graph, dict(stacks), {layer.node for layer in layers})
    return [
        Spectrum.of(layer, observed[layer.node].about_mean().operands[0] if layer.node in observed else None)
        for layer in layers
    ]


def _factored(
    graph: Graph, ranks: Mapping[Dense, int], stacks: Environment, progress: Progress | None
) -> tuple[Graph, list[Fit]]:
    """A copy of `graph` with layers of given ranks split in two; with samples all layers are fitted on the way."""
    copy = graph.clone()
    nodes = dict(zip(graph.nodes, copy.nodes, strict=True))
    wanted = {nodes[layer.node]: rank for layer, rank in ranks.items()}
    fits: list[Fit] = []

    def visit(node: Node, x: np.ndarray, target: np.ndarray) -> None:
        fits.append(fit_layer(node, x, target, rank=wanted.get(node)))

    if stacks and wanted:
        run_beside(copy, graph, Kept({}), stacks, visit, progress)
    for layer in dense_layers(copy):
        if layer.node in wanted:
            split(layer, wanted[layer.node])
    copy.remove_unused_constants()
    return copy, fits


def _slower(ranks: Mapping[Dense, int], progress: Progress | None) -> dict[Dense, str]:
    """The layers that are faster as they are, with both times; layers of one shape are timed once."""
    from graphopt.report.tables import duration

    seen: dict[tuple[int, int, int, int], tuple[float, float] | None] = {}
    found = {}
    for number, (layer, rank) in enumerate(ranks.items()):
        key = (layer.rows, layer.inputs, layer.outputs, rank)
        if key not in seen:
            if progress:
                progress("timing pairs", number, len(ranks))
            seen[key] = _times(*key)
        times = seen[key]
        if times is not None and times[1] > times[0]:
            told = f"rank {rank} would take {duration(times[1])}, the layer takes {duration(times[0])}"
            found[layer] = told
    return found


def _times(rows: int, inputs: int, outputs: int, rank: int) -> tuple[float, float] | None:
    """Seconds of a layer and of the pair in its place; None where they cannot run here."""
    sample = {"x": np.ones((rows, inputs), np.float32)}
    forms = (inputs, outputs), (inputs, rank, outputs)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        models = [
            runnable(_alone(rows, widths), folder=Path(folder, str(number)))
            for number, widths in enumerate(forms)
        ]
        whole, pair = least_seconds(models, sample, 1, SECONDS)
    return None if whole is None or pair is None else (whole, pair)


def _alone(rows: int, widths: Sequence[int]) -> Graph:
    """Products of matrices of ones, one after the other."""
    graph = Graph("layer", opset=24)
    value = graph.add_input("x", TensorType(DType.float32, (rows, widths[0])))
    for first, second in zip(widths, widths[1:], strict=False):
        weights = graph.add_constant(np.ones((first, second), np.float32), "w")
        made = TensorType(DType.float32, (rows, second))
        value = graph.add("MatMul", [value, weights], types=[made]).output
    graph.add_output(value, "y")
    return graph


def _told(layer: Dense, rank: int | None, reason: str) -> Factored:
    if rank is None and not reason:
        reason = "two factors would hold no less, or lose too much"
    return Factored(layer.name, layer.inputs, layer.outputs, rank, reason)
