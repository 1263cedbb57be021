"""Quantisation, from a float model and samples to a model with QuantizeLinear and DequantizeLinear.

    result = graphopt.quantize("model.onnx", "calibration.npz")
    write_model(result.graph, "model.int8.onnx")

The float model is optimised, calibrated and quantised layer by layer (`graphopt.passes.quantize`). The result holds
standard operators alone: ONNX Runtime runs it as it is, and `graphopt.compile` makes integer kernels of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.analysis.cost import cost_of_graph
from graphopt.analysis.ranges import Ranges
from graphopt.api import Progress, load, optimize
from graphopt.errors import UsageError
from graphopt.evaluate import Judge
from graphopt.finishing_products import finishing_products
from graphopt.float_islands import float_islands
from graphopt.integer_speed import Speed, measure_speed
from graphopt.ir import Graph
from graphopt.passes import QUANTIZABLE
from graphopt.passes.balance import balance, channels_of
from graphopt.passes.equalize import Pair
from graphopt.passes.expand_quantized import QUANTISED
from graphopt.passes.integer_io import IntegerIO
from graphopt.passes.quantization.check_weights import check_weights
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.narrow_parameters import narrow_parameters
from graphopt.passes.quantization.operators import is_lookup
from graphopt.passes.quantization.parameters import for_range
from graphopt.passes.quantization.scheme import Scheme, parse_scheme
from graphopt.precision_search import Quantiser, Search
from graphopt.quality import Quality, labels_of, measure_quality
from graphopt.quantization_report import Report, slow_schemes, summarised
from graphopt.rewrite import Statistics
from graphopt.runnable import runnable
from graphopt.sensitivity import Harm, Task
from graphopt.targets.device import Target, load_target

if TYPE_CHECKING:
    import onnx

    from graphopt.passes.rounding.effect import Effect
    from graphopt.refinement import Refinement

SECONDS = 0.3
"""How long each of two models is timed."""


@dataclass(frozen=True)
class QuantizeResult:
    """The quantised graph, the ranges of the float graph behind `QUANTIZABLE`, and what was done.

    `effects` are those of the methods on each layer. `harms` are there when they were asked for; `loss` when it was
    bounded, in the unit of the metric, else as noise over signal (root mean squares); `quality` and `speed` when
    measured. `warnings` are of outputs that are of little use.
    """

    graph: Graph
    ranges: Ranges
    report: Report
    harms: tuple[Harm, ...] = ()
    loss: float | None = None
    effects: tuple[Effect, ...] = ()
    quality: Quality | None = None
    speed: Speed | None = None
    warnings: tuple[str, ...] = ()


def quantize(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    data: object = None,
    *,
    scheme: str | Scheme = "int8",
    ranges: Ranges | None = None,
    observer: str = "min-max",
    methods: str = "default",
    allow_constant: bool = False,
    preprocess: str | None = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
    max_loss: float | None = None,
    labels: object = None,
    metric: str | None = None,
    evaluate: Judge | str | None = None,
    explain: bool = False,
    measure: bool = False,
    target: str | Path | Target | None = None,
    integer_io: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> QuantizeResult:
    """Quantise `model` by `scheme`, with the ranges that its values take on `data`.

    `data` may have any form that `graphopt.data.open_samples` takes; schemes for weights alone need none. `ranges` from
    an earlier run stand in for it. `allow_constant` takes values that are the same in all samples as they are (see
    `graphopt.calibrate`). Layers that `exclude` names, `*` standing for any letters, stay float.

    `methods` says how weights are fitted to the samples (`graphopt.refinement`); "none" rounds them to nearest.

    With `max_loss`, layers that lose too much get more bits, or stay float: the cheapest assignment whose loss on
    `data` is no greater. The loss is that of `metric` with `labels` (see `graphopt.evaluate.tally`; top1 unless given),
    in the metric's unit; of the number that `evaluate` gives the model; else the outputs' noise over their signal, as
    root mean squares.

    `explain` tries every layer alone. With `measure`, or anything to judge by, the result is measured beside the float
    model (`graphopt.quality`), which compiles both for this machine. With a `target`, schemes that it does not sum as
    integers are told, and cost as much as float.

    With `integer_io` the model reads and returns integers (`graphopt.passes.integer_io`): inputs that layers quantise
    alike, and outputs whose range is known.

    Raises UsageError for data that do not fit, a model that is quantised already, and weights that hold nothing but
    zeros or are no numbers.
    """
    chosen = parse_scheme(scheme)
    machine = target if isinstance(target, Target | None) else load_target(str(target))
    task = Task(data, labels, metric or Task.metric, evaluate, preprocess, limit)
    is_measured = measure or task.has_metric
    if data is None and (max_loss is not None or explain or is_measured):
        raise UsageError("there are no samples to try layers on", hint="give --calibration, or data")
    if metric is not None and labels is None:
        raise UsageError(
            "a metric needs labels, and there are none", where="metric", hint="give --labels, or labels"
        )
    if labels is not None and evaluate is not None:
        what = "labels and a function of your own both judge the model"
        raise UsageError(what, where="evaluate", hint="give one of them")
    task.check()
    task.check_readable_again()
    if max_loss is not None and max_loss > 1 and task.is_share:
        hint = f"write {max_loss:g}%, or max_loss={max_loss / 100:g} in Python"
        raise UsageError(
            f"a loss of {max_loss:g} is more than all there is to lose", where="max_loss", hint=hint
        )
    original = model if isinstance(model, Graph) else load(model, input_shapes=input_shapes)
    refuse_quantised(original)
    if task.labels is not None:
        labels_of(task, task.samples(original))
    if progress:
        progress("optimising", 0, 1)
    graph = optimize(original, QUANTIZABLE)
    _prepare(methods, graph, task)
    layers = offered = layers_of(graph, chosen, exclude)
    if not layers and exclude:
        raise UsageError("every layer is excluded", where="exclude", hint="leave one that is quantised")
    notes = check_weights(layers)
    refining = _refinement(methods, original, graph, chosen, task)
    scales = {} if refining is None else refining.balancing(graph, chosen)
    channels = channels_of(scales)
    if ranges is None:
        ranges = _calibrated(graph, chosen, task, observer, allow_constant, channels, progress)
    ranges.check(graph)
    balanced = balance(graph, {p: s for p, s in scales.items() if _by_channel(ranges, p)}, ranges)
    quantiser = Quantiser(graph, balanced, progress, refining)
    tables = {node: given for node, given in layers.items() if is_lookup(node)}
    search = Search(quantiser, task, chosen, [n for n in layers if n not in tables], tables, machine)
    loss = None
    if max_loss is not None:
        layers, loss = search.within(max_loss)
    elif _finishes(methods):
        layers = layers | finishing_products(graph, layers, machine)
    harms = search.harms() if explain else []
    done = tuple(summarised(graph, chosen, layers, offered))
    if machine is not None:
        notes += slow_schemes(done, machine)
    quantised, effects = quantiser.refined(layers)
    narrow_parameters(quantised)
    islands = float_islands(graph, layers, quantiser.bounds, () if data is None else task.samples(graph))
    before, after = (cost_of_graph(g).weight_bytes for g in (graph, quantised))
    report = Report(done, tuple(notes), before, after, islands)
    result = QuantizeResult(quantised, ranges, report, tuple(harms), loss, tuple(effects))
    if not is_measured:
        return _with_integer_io(result, chosen) if integer_io else result
    quality, speed = _measured(graph, result, task, refining, machine, progress)
    warnings = quality.warnings(harms or search.noises()) if quality.poor else []
    result = replace(result, quality=quality, speed=speed, warnings=tuple(warnings))
    return _with_integer_io(result, chosen) if integer_io else result


def _with_integer_io(result: QuantizeResult, scheme: Scheme) -> QuantizeResult:
    """The same with integers as inputs and outputs. Raises UsageError for a scheme that leaves activations float."""
    dtype = scheme.activation_type
    if dtype is None or scheme.dynamic:
        what = f"scheme '{scheme}' has no integers that a caller could pass"
        raise UsageError(what, where="integer_io", hint="name one such as int8")
    graph, outputs = result.graph, {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        if value.name in result.ranges:
            whole = result.ranges[value.name].whole()
            outputs[name] = for_range(float(whole.low), float(whole.high), dtype, where=f"output '{name}'")
    IntegerIO(outputs).run(graph, Statistics())
    return result


def _measured(
    graph: Graph,
    result: QuantizeResult,
    task: Task,
    refining: Refinement | None,
    target: Target | None,
    progress: Progress | None,
) -> tuple[Quality, Speed | None]:
    """Both models run as they would on `target`, or on this machine; of an emulated one no speed is told."""
    is_native = target is None or target.is_native
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        first, second = (
            runnable(model, progress, folder=Path(folder, name), target=target if is_native else None)
            for name, model in (("float", graph), ("quantised", result.graph))
        )
        fitted = 0 if refining is None else len(refining.samples)
        quality = measure_quality((first, second), task, fitted, progress)
        if not is_native:
            return quality, None
        sample = next(iter(task.samples(first.inputs)))
        share = result.report.share_of_macs
        return quality, measure_speed((first, second), sample, share, SECONDS, progress)


def _prepare(methods: str, graph: Graph, task: Task) -> None:
    from graphopt.refinement import BEFORE, prepare, switches_of

    if task.data is not None and switches_of(methods).intersection(BEFORE):
        prepare(methods, graph, task.samples(graph))


def _finishes(methods: str) -> bool:
    from graphopt.refinement import switches_of

    return "finish" in switches_of(methods)


def _refinement(methods: str, original: Graph, graph: Graph, scheme: Scheme, task: Task) -> Refinement | None:
    """None where there is nothing to do, or ranges are found at run time."""
    from graphopt.refinement import refinement, switches_of, without_samples

    if not switches_of(methods) or scheme.dynamic:
        return None
    return (
        without_samples(methods, original)
        if task.data is None
        else refinement(methods, graph, task.samples(graph))
    )


def _calibrated(
    graph: Graph,
    scheme: Scheme,
    task: Task,
    observer: str,
    allow_constant: bool,
    channels: Mapping[str, int],
    progress: Progress | None,
) -> Ranges:
    if scheme.activation_type is None:
        return Ranges({})
    from graphopt.calibration import calibrate

    if task.data is None:
        hint = "give samples of what the model will see (--calibration, or data), or a scheme such as weights-int8"
        raise UsageError(f"scheme '{scheme}' needs data to find ranges of activations", hint=hint)
    return calibrate(
        graph,
        task.samples(graph),
        observer=observer,
        per_channel=channels,
        allow_constant=allow_constant,
        progress=progress,
    )


def _by_channel(ranges: Ranges, pair: Pair) -> bool:
    """Whether the ranges are known channel by channel; those of a file may not be."""
    return all(value.name in ranges and ranges[value.name].axis is not None for value in pair.chain)


def is_quantised(graph: Graph) -> bool:
    return any(node.key in QUANTISED for node in graph.all_nodes())


def refuse_quantised(graph: Graph) -> None:
    """Raise UsageError for a model that is quantised already."""
    for node in graph.all_nodes():
        if node.key in QUANTISED:
            raise UsageError(
                "the model is quantised already",
                where=f"node '{node.origin.known_as(node.name)}' ({node.key})",
                hint="`graphopt compile` takes it as it is; quantise the float model otherwise",
            )
