"""How good a quantised model is, beside its float original, on the samples that it was made with.

Samples behind those that weights were fitted to say more than these; where they are few, all are taken. What users will
see is told by data that nothing was chosen by: `graphopt.comparison`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.api import Progress
from graphopt.data import Samples
from graphopt.data.labels import read_labels
from graphopt.errors import UsageError
from graphopt.evaluate import as_metric, by_sample
from graphopt.metrics import Metric, Score, Tally, difference
from graphopt.runnable import Runnable
from graphopt.sensitivity import Harm, Task, half_of_the_noise

FEWEST = 32
"""Samples that weights were not fitted to, from which on they alone are taken."""

MOST = 512
"""Samples that are measured."""

POOR = 10.0
"""Decibels below which an output is of little use: a third of it is noise."""

LISTED_AT_MOST = 3


@dataclass(frozen=True)
class Quality:
    """A quantised model beside the float one on `samples` samples; `held_back` if weights were not fitted to them.

    `signals` are the SQNR of outputs that are floats, in decibels; None where the float model gives nothing but zeros.
    `silent` are those that quantised are zero throughout and should not be. `agreement` is the share of samples with
    the largest number of the first output in the same place. `scores` are those of float and quantised, `loss` is how
    much worse the latter is, with its interval.
    """

    samples: int
    held_back: bool
    signals: Mapping[str, float | None]
    silent: tuple[str, ...] = ()
    agreement: float | None = None
    scores: tuple[Score, Score] | None = None
    loss: tuple[float, float, float] | None = None

    @property
    def poor(self) -> list[str]:
        """The outputs of little use."""
        return [name for name, sqnr in self.signals.items() if sqnr is not None and sqnr < POOR]

    def warnings(self, harms: Sequence[Harm]) -> list[str]:
        """What to tell of poor outputs; `harms` are those of the layers alone."""
        worst = half_of_the_noise(harms)[:LISTED_AT_MOST]
        named = ", ".join(f"'{harm.name}' ({harm.sqnr:.1f} dB alone)" for harm in worst)
        layers = f"the worst layers: {named}; " if named else ""
        way_out = f"{layers}--explain lists what each costs, --max-loss gives them more bits"
        told = []
        for name in self.poor:
            zeros = "is zero throughout" if name in self.silent else "is mostly noise"
            told.append(f"output '{name}' {zeros} (SQNR {self.signals[name]:.1f} dB); {way_out}")
        return told


def measure_quality(
    models: tuple[Runnable, Runnable], task: Task, fitted: int, progress: Progress | None = None
) -> Quality:
    """Of the second of two models, the first being the float one; weights were fitted to the first `fitted` samples.

    Raises UsageError where labels, answers or metric do not fit.
    """
    samples = task.samples(models[0].inputs)
    start = fitted if samples.count is not None and samples.count - fitted >= FEWEST else 0
    labels = labels_of(task, samples)
    seen = _Seen(models, None if labels is None else (labels, as_metric(task.metric)))
    total = min((samples.count or 0) - start, MOST) if progress else 0
    for number, sample in enumerate(itertools.islice(samples, start, start + MOST)):
        if progress:
            progress("measuring quality", number, max(total, number + 1))
        seen.add(sample, start + number)
    quality = seen.quality(held_back=start > 0)
    if task.judge is None:
        return quality
    reference, quantised = (task.score(model) for model in models)
    loss = (quantised.worse_by(reference), math.nan, math.nan)
    return replace(quality, scores=(reference, quantised), loss=loss)


def labels_of(task: Task, samples: Samples) -> np.ndarray | None:
    """The labels that `samples` are judged by; None where there are none. Raises UsageError for too many or few."""
    if task.labels is None:
        return None
    shape = samples.inputs[0].shape
    batch = shape[0] if shape else 1
    labels = read_labels(task.labels, task.data)[: None if task.limit is None else task.limit * batch]
    count = samples.count
    if count is not None and len(labels) // batch != count:
        what = f"there are {len(labels)} labels and {count * batch} samples in {samples.name}"
        raise UsageError(what, where="labels", hint="give a label for each sample")
    return labels


class _Seen:
    """What is kept of the answers of two models; `judged` are labels and their metric."""

    def __init__(self, models: tuple[Runnable, Runnable], judged: tuple[np.ndarray, Metric] | None) -> None:
        self._models = models
        self._outputs = {spec.name: _Energies() for spec in models[0].outputs if spec.dtype.is_float}
        self._first = models[0].outputs[0].name
        self._same: list[bool] = []
        self._rows = 0
        self._labels = None if judged is None else judged[0]
        self._tallies = () if judged is None else tuple(Tally(judged[1]) for _ in models)

    def add(self, sample: Mapping[str, np.ndarray], place: int) -> None:
        """`place` is that of the sample in the data."""
        batch = self._models[0].batch
        wanted, got = (model.run(sample) for model in self._models)
        for name, energies in self._outputs.items():
            energies.add(wanted[name], got[name])
        if self._first in self._outputs and wanted[self._first].size > batch:
            a, b = (by_sample(answer[self._first], batch).reshape(batch, -1) for answer in (wanted, got))
            self._same += (a.argmax(axis=1) == b.argmax(axis=1)).tolist()
        self._rows += batch
        if self._labels is None:
            return
        labels = self._labels[place * batch : (place + 1) * batch]
        for tally, answer in zip(self._tallies, (wanted, got), strict=True):
            tally.add(by_sample(answer[self._first], batch), labels)

    def quality(self, *, held_back: bool) -> Quality:
        scores = loss = None
        if self._tallies:
            reference, quantised = self._tallies
            scores, loss = (reference.score(), quantised.score()), difference(quantised, reference)
        return Quality(
            self._rows,
            held_back,
            {name: energies.sqnr for name, energies in self._outputs.items()},
            tuple(name for name, energies in self._outputs.items() if energies.is_silent),
            float(np.mean(self._same)) if self._same else None,
            scores,
            loss,
        )


@dataclass
class _Energies:
    """Of an output of the float model and of the error; what is infinite in the former does not count."""

    signal: float = 0.0
    noise: float = 0.0
    answers: bool = False

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        known = np.isfinite(wanted)
        a, b = (array[known].astype(np.float64) for array in (wanted, got))
        self.signal += float(np.square(a).sum())
        self.noise += float(np.square(b - a).sum())
        self.answers |= bool(b.any())

    @property
    def is_silent(self) -> bool:
        return self.signal > 0 and not self.answers

    @property
    def sqnr(self) -> float | None:
        if not self.signal:
            return None
        if not math.isfinite(self.noise):
            return -math.inf
        return 10 * math.log10(self.signal / self.noise) if self.noise else math.inf
