"""Comparing two models on the same data, in one pass over it, and their speed in turns.

An ONNX file is compiled for this machine first, so both are what would run. The first is the reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.analysis.integers import IntegerShares, integer_shares
from graphopt.api import Progress, load
from graphopt.comparison.answers import Answers
from graphopt.comparison.layers import LayerError, layer_errors
from graphopt.data import open_samples
from graphopt.data.labels import read_labels
from graphopt.data.samples import Preprocess
from graphopt.errors import UsageError
from graphopt.evaluate import as_metric, output_named
from graphopt.integer_speed import least_seconds, slow_reasons
from graphopt.ir import Graph
from graphopt.metrics import Metric, Score
from graphopt.runnable import Runnable, runnable

LAYER_SAMPLES = 16
"""Samples on which inner values are compared, unless told otherwise."""


@dataclass(frozen=True)
class Side:
    """One of the two. `seconds` is the least time of a run, None where it cannot run here; sizes are in bytes.

    `library_bytes` is None for a model that only the numpy reference runs, `file_bytes` for a bundle, `shares` where
    there is no graph to look at.
    """

    name: str
    machine: str
    library_bytes: int | None
    file_bytes: int | None
    shares: IntegerShares | None
    score: Score | None
    seconds: float | None


@dataclass(frozen=True)
class ModelComparison:
    """What `compare` finds. `signal`, `agreement` and `loss` are told in `graphopt.comparison.answers`.

    `layers` were compared on `layer_samples` samples; times are of `threads` threads. `reasons` tell why a second model
    with more integers than the first is slower.
    """

    sides: tuple[Side, Side]
    output: str
    samples: int
    signal: Score | None
    agreement: Score | None
    loss: tuple[float, float, float] | None
    layers: tuple[LayerError, ...]
    layer_samples: int
    threads: int
    reasons: tuple[str, ...] = ()

    @property
    def speedup(self) -> float | None:
        """The first's time over the second's."""
        a, b = (side.seconds for side in self.sides)
        return a / b if a is not None and b is not None else None


def compare(
    first: str | Path,
    second: str | Path,
    data: object,
    labels: object = None,
    metric: str | Metric = "top1",
    *,
    output: str | None = None,
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    layer_samples: int = LAYER_SAMPLES,
    threads: int = 1,
    seconds: float = 2.0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> ModelComparison:
    """Compare two ONNX files or bundles; parameters as in `graphopt.evaluate.tally`.

    Without `labels` there is no task metric. The two take turns for `seconds` each, 0 for no times. `input_shapes`
    fixes symbolic dimensions of the files' inputs by name. Raises UsageError when the two take different inputs, and
    where the data do not fit.
    """
    paths = (Path(first), Path(second))
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        places = [Path(folder, name) for name in ("first", "second")]
        models = [
            runnable(path, progress, folder=place, input_shapes=input_shapes)
            for path, place in zip(paths, places, strict=True)
        ]
        if models[0].inputs != models[1].inputs:
            listed = " and ".join(", ".join(map(str, model.inputs)) for model in models)
            raise UsageError(f"the two take different inputs: {listed}", hint="compare models of one task")
        wanted = None if labels is None else read_labels(labels, data)[:limit]
        answers = Answers(
            models, output_named(models[0], output), wanted, as_metric(metric), max(layer_samples, 1)
        )
        samples = open_samples(data, models[0].inputs, preprocess=preprocess, limit=limit)
        answers.look(samples, progress)
        times = least_seconds(models, answers.kept[0], threads, seconds, progress)
        graphs = [_graph(path, model, input_shapes) for path, model in zip(paths, models, strict=True)]
        a, b = (
            Side(
                path.name,
                model.machine,
                model.bundle.library.stat().st_size if model.bundle else None,
                path.stat().st_size if path.is_file() else None,
                None if graph is None else integer_shares(graph),
                score,
                taken,
            )
            for path, model, graph, score, taken in zip(
                paths, models, graphs, answers.scores(), times, strict=True
            )
        )
        why = _reasons(models, (a, b))
    seen = answers.kept[:layer_samples]
    return ModelComparison(
        (a, b),
        answers.output,
        answers.samples,
        answers.signal(),
        answers.agreement(),
        answers.loss(),
        _layers(graphs, seen, progress),
        len(seen),
        threads,
        why,
    )


def _reasons(models: Sequence[Runnable], sides: tuple[Side, Side]) -> tuple[str, ...]:
    a, b = sides
    first, second = (None if side.shares is None else side.shares.of_macs for side in sides)
    if not (a.seconds and b.seconds) or first is None or second is None or second <= first:
        return ()
    return slow_reasons(models, a.seconds / b.seconds, second)


def _graph(path: Path, model: Runnable, input_shapes: Mapping[str, Sequence[int]] | None) -> Graph | None:
    """The graph of a file, or the one that a bundle holds beside its library."""
    if path.is_file():
        return load(path, input_shapes=input_shapes)
    optimized = model.bundle.optimized if model.bundle else None
    return load(optimized) if optimized else None


def _layers(
    graphs: Sequence[Graph | None], samples: Sequence[Mapping[str, np.ndarray]], progress: Progress | None
) -> tuple[LayerError, ...]:
    first, second = graphs
    if first is None or second is None or not samples:
        return ()
    return tuple(layer_errors(first, second, samples, progress=progress))
