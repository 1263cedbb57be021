"""Which layers a model can least afford to have quantised.

Each layer in turn is quantised alone, its weights and what it reads, and the outputs are compared with those of the
float model: noise over signal, and the task's metric where there are labels. One compiled model serves all trials
(`graphopt.passes.quantization.alternatives`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.api import Progress
from graphopt.data import Samples, open_samples
from graphopt.data.functions import function_named
from graphopt.data.labels import read_labels
from graphopt.data.sources import READABLE_AGAIN, Elements
from graphopt.errors import UsageError
from graphopt.evaluate import Judge, as_metric, evaluate, evaluate_with
from graphopt.ir import Graph, Node
from graphopt.metrics import Score
from graphopt.passes.quantization.alternatives import with_alternatives
from graphopt.passes.quantization.layers import layer_name
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.scheme import Scheme
from graphopt.runnable import Runnable, runnable
from graphopt.runtime.manifest import Tensor

COMPARED = 32
"""Samples whose outputs are compared."""


@dataclass(frozen=True)
class Task:
    """What a model is for: samples, and how answers are judged, by labels and a metric, or by a function.

    Without either, the loss is the noise of the outputs over their signal (root mean squares).
    """

    data: object
    labels: object = None
    metric: str = "top1"
    judge: Judge | str | None = None
    preprocess: str | None = None
    limit: int | None = None

    @property
    def has_metric(self) -> bool:
        return self.labels is not None or self.judge is not None

    @property
    def is_share(self) -> bool:
        """Whether losses are shares of a whole; a function's number may be anything."""
        if self.labels is None:
            return self.judge is None
        return as_metric(self.metric).unit == "%"

    def check(self) -> None:
        """Raises UsageError, before any work, for a function, a metric or labels that are not there."""
        if isinstance(self.judge, str):
            function_named(self.judge)
        elif self.labels is not None:
            as_metric(self.metric)
            read_labels(self.labels, self.data)

    def check_readable_again(self) -> None:
        """Raises UsageError for an iterator: where several stages read the data, it would be spent after the first."""
        source = self.data.source if isinstance(self.data, Samples) else self.data
        elements = source.elements if isinstance(source, Elements) else source
        if isinstance(elements, Iterator):
            what = "it can be read once, and several stages read it"
            raise UsageError(what, where=f"data, {type(elements).__name__}", hint=READABLE_AGAIN)

    def samples(self, inputs: Graph | tuple[Tensor, ...]) -> Samples:
        """The data for the inputs of a model. Raises UsageError."""
        return open_samples(self.data, inputs, preprocess=self.preprocess, limit=self.limit)

    def score(self, model: Runnable, limit: int | None = None) -> Score:
        """Raises UsageError for what does not fit."""
        if self.judge is not None:
            return evaluate_with(model, self.judge)
        fewest = min((n for n in (limit, self.limit) if n is not None), default=None)
        return evaluate(model, self.data, self.labels, self.metric, preprocess=self.preprocess, limit=fewest)


@dataclass(frozen=True)
class Harm:
    """What quantising one layer alone does. `noise` is a share of the signal's energy; `loss` in the metric's unit."""

    layer: Node
    scheme: Scheme
    noise: float
    loss: float | None = None

    @property
    def name(self) -> str:
        return layer_name(self.layer)

    @property
    def sqnr(self) -> float:
        """In dB."""
        return -10 * math.log10(self.noise) if self.noise else math.inf


class Trials:
    """The float model with a switch for each layer."""

    def __init__(
        self,
        graph: Graph,
        layers: Sequence[Node],
        schemes: Sequence[Scheme],
        bounds: Mapping[str, Bounds],
        samples: Sequence[Mapping[str, np.ndarray]],
        *,
        progress: Progress | None = None,
    ) -> None:
        self.layers, self.schemes = list(layers), list(schemes)
        self._samples = samples
        switched, self._choices = with_alternatives(graph, self.layers, self.schemes, bounds)
        self._model = runnable(switched, progress)
        self._wanted = self._answers({})

    def model(self, assignment: Mapping[Node, Scheme]) -> Runnable:
        """The model with some layers quantised."""
        choices = np.zeros(len(self.layers), np.int64)
        for number, layer in enumerate(self.layers):
            if layer in assignment:
                choices[number] = self.schemes.index(assignment[layer]) + 1
        inputs = tuple(spec for spec in self._model.inputs if spec.name != self._choices)
        run = self._model.run
        return Runnable(
            inputs,
            self._model.outputs,
            lambda sample: run({**sample, self._choices: choices}),
            self._model.machine,
        )

    def noise(self, assignment: Mapping[Node, Scheme]) -> float:
        """Energy of the error over that of the outputs, the mean over the outputs of the model."""
        return noise_share(self._wanted, self._answers(assignment))

    def harms(self, scheme: Scheme, task: Task | None = None, progress: Progress | None = None) -> list[Harm]:
        """Of each layer alone, the greatest first; with a task that has a metric its loss too."""
        reference = task.score(self.model({}), JUDGED) if task and task.has_metric else None
        found = []
        for number, layer in enumerate(self.layers):
            if progress:
                progress(f"trying {scheme} layer by layer", number, len(self.layers))
            alone = {layer: scheme}
            loss = None
            if task is not None and reference is not None:
                loss = task.score(self.model(alone), JUDGED).worse_by(reference)
            found.append(Harm(layer, scheme, self.noise(alone), loss))
        return sorted(found, key=lambda harm: -harm.noise)

    def _answers(self, assignment: Mapping[Node, Scheme]) -> list[list[np.ndarray]]:
        run = self.model(assignment).run
        return [list(run(sample).values()) for sample in self._samples]


JUDGED = 200
"""Samples that are judged for each layer."""


def noise_share(wanted: Sequence[Sequence[np.ndarray]], got: Sequence[Sequence[np.ndarray]]) -> float:
    """Energy of the difference over that of what is wanted, over all samples; the mean over the outputs."""
    shares = [_share(*pair) for pair in zip(zip(*wanted, strict=True), zip(*got, strict=True), strict=True)]
    return float(np.mean(shares))


def _share(wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    signal = sum(float(np.square(a, dtype=np.float64).sum()) for a in wanted)
    noise = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(wanted, got, strict=True))
    return noise / signal if signal else float(noise > 0)


def half_of_the_noise(harms: Sequence[Harm]) -> list[Harm]:
    """The fewest layers that make half of the noise together; without them the outputs gain 3 dB."""
    total, made, chosen = sum(harm.noise for harm in harms), 0.0, []
    for harm in sorted(harms, key=lambda harm: -harm.noise):
        if made >= total / 2:
            break
        chosen.append(harm)
        made += harm.noise
    return chosen


def first_of(
    samples: Iterator[Mapping[str, np.ndarray]], count: int = COMPARED
) -> list[dict[str, np.ndarray]]:
    """Copies of the first so many."""
    kept = []
    for sample in samples:
        kept.append({name: np.array(array) for name, array in sample.items()})
        if len(kept) == count:
            break
    return kept
