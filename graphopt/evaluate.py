"""How good a model is at its task: its answers on labelled data, as a score with an interval.

score = evaluate("model.bundle", "test.npz:images", labels="labels", metric="top1")
score = evaluate_with("model.onnx", "my_task:score")   # a function of the user's own gets the model and judges it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from graphopt.data import Samples, open_samples
from graphopt.data.functions import blamed, function_named, is_function_name
from graphopt.data.labels import read_labels
from graphopt.data.samples import Preprocess
from graphopt.errors import UsageError, did_you_mean
from graphopt.metrics import Metric, Score, Tally, metric_named
from graphopt.metrics.function import FunctionMetric, function_score
from graphopt.runnable import Model, Progress, Runnable, runnable

Judge = Callable[[Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]], object]
"""Gets the model as a function on arrays by name, returns a number; higher is better."""


def evaluate(
    model: Model,
    data: object,
    labels: object,
    metric: str | Metric = "top1",
    *,
    output: str | None = None,
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Score:
    """The score of `model` on `data` (see `graphopt.data.open_samples`); `tally` tells the parameters."""
    counted = tally(
        model, data, labels, metric, output=output, preprocess=preprocess, limit=limit, progress=progress
    )
    return counted.score()


def tally(
    model: Model,
    data: object,
    labels: object,
    metric: str | Metric = "top1",
    *,
    output: str | None = None,
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Tally:
    """What `metric` keeps of each sample; two of them on the same data have a `difference`.

    `model` is an ONNX file, a graph, a bundle's folder, or a `Runnable`. `labels` are an array with one entry a sample,
    the name of an array in the data's .npz file, or a file. `metric` is a name, such as top5, or `module:function`:
    of a function that gets one sample's output and its label and returns a number; their mean counts, higher is
    better. `output` names the output that is judged, the first unless given. `limit` takes the first so many samples.

    Raises UsageError where data, labels or answers do not fit, and for what the function raises.
    """
    judged = as_metric(metric)
    chosen = runnable(model, progress)
    name = output_named(chosen, output)
    samples = open_samples(data, chosen.inputs, preprocess=preprocess, limit=limit)
    wanted = read_labels(labels, data)[:limit]
    counted = Tally(judged)
    for index, sample in enumerate(_counted(samples, progress)):
        rows = by_sample(chosen.run(sample)[name], chosen.batch)
        first = index * chosen.batch
        if first + len(rows) > len(wanted):
            what = f"there are {len(wanted)} labels and more samples in {samples.name}"
            raise UsageError(what, where="labels", hint="give a label for each sample")
        counted.add(rows, wanted[first : first + len(rows)])
    if counted.samples + chosen.batch <= len(wanted):
        what = f"there are {len(wanted)} labels and {counted.samples} samples in {samples.name}"
        raise UsageError(what, where="labels", hint="give a label for each sample")
    return counted


def evaluate_with(model: Model, judge: Judge | str, *, progress: Progress | None = None) -> Score:
    """The score that a function gives `model`: a number, higher is better, without an interval.

    `judge` is a function or `module:function`; it is called with the model as a function on arrays by name. Raises
    UsageError for what it raises, and when it returns no number.
    """
    chosen = runnable(model, progress)
    function = function_named(judge) if isinstance(judge, str) else judge
    name = judge if isinstance(judge, str) else getattr(judge, "__qualname__", type(judge).__name__)
    if progress:
        progress(f"evaluating with {name}", 0, 1)
    with blamed(name):
        return function_score(name, function(chosen.run))


def as_metric(metric: str | Metric) -> Metric:
    """By name, or of a function of the user's own. Raises UsageError."""
    if isinstance(metric, Metric):
        return metric
    if is_function_name(metric) and not metric.rpartition(":")[2].isdecimal():
        return FunctionMetric(metric, function_named(metric))
    return metric_named(metric)


def output_named(model: Runnable, name: str | None) -> str:
    """The output to judge. Raises UsageError for a name that the model lacks."""
    known = [spec.name for spec in model.outputs]
    if name is None:
        return known[0]
    if name not in known:
        hint = did_you_mean(name, known, f"outputs: {', '.join(known)}")
        raise UsageError(f"the model has no output '{name}'", hint=hint)
    return name


def by_sample(answer: np.ndarray, batch: int) -> np.ndarray:
    """Samples along the first axis: it is the batch's, or there is none and one sample."""
    if answer.ndim and len(answer) == batch:
        return answer
    if batch == 1:
        return answer[np.newaxis]
    what = f"the output is {list(answer.shape)}, which is not a row for each of {batch} samples"
    raise UsageError(what, hint="give a model with a batch of 1")


def _counted(samples: Samples, progress: Progress | None) -> Iterator[Mapping[str, np.ndarray]]:
    total = (samples.count or 0) if progress else 0
    for index, sample in enumerate(samples):
        if progress:
            progress("evaluating", index, max(total, index + 1))
        yield sample
