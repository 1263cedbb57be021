"""What is kept of two models' answers while the data go by once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.api import Progress
from graphopt.data import Samples
from graphopt.errors import UsageError
from graphopt.evaluate import by_sample
from graphopt.metrics import Metric, Score, Tally, difference, metric_named
from graphopt.runnable import Runnable


class Answers:
    """Scores of both, the second's distance from the first, and the first `kept` samples themselves.

    The outputs that are called `output` are judged, or those in its place. `labels` have one entry a sample; None for
    no task metric.
    """

    def __init__(
        self,
        models: Sequence[Runnable],
        output: str,
        labels: np.ndarray | None,
        metric: Metric,
        kept: int,
    ) -> None:
        self.models = models
        self.output = output
        self.labels = labels
        self.kept: list[Mapping[str, np.ndarray]] = []
        self._keep = kept
        self._names = [output, _counterpart(output, models)]
        self._tallies = [Tally(metric) for _ in models]
        self._signal = Tally(metric_named("sqnr"))
        self._agreement = Tally(metric_named("top1"))

    @property
    def samples(self) -> int:
        return self._signal.samples

    def look(self, data: Samples, progress: Progress | None) -> None:
        """Run both on all data. Raises UsageError where there are more or fewer labels."""
        total = (data.count or 0) if progress else 0
        for number, sample in enumerate(data):
            if progress:
                progress("comparing answers", number, max(total, number + 1))
            if number < self._keep:
                self.kept.append(sample)
            self._add(sample)
        if self.labels is not None and self.samples + self.models[0].batch <= len(self.labels):
            self._refuse_labels(f"{self.samples} samples")

    def scores(self) -> list[Score | None]:
        """The task metric of each; None without labels."""
        return [None if self.labels is None else tally.score() for tally in self._tallies]

    def loss(self) -> tuple[float, float, float] | None:
        """How much worse the second scores, and the interval of that; None without labels."""
        return None if self.labels is None else difference(self._tallies[1], self._tallies[0])

    def signal(self) -> Score | None:
        """SQNR of the second's output; None where the first's is zero throughout."""
        return self._signal.score() if self._signal.rows[:, 0].any() else None

    def agreement(self) -> Score | None:
        """The share of samples whose largest numbers are in one place; None for outputs of one number."""
        return self._agreement.score() if self._agreement.samples else None

    def _add(self, sample: Mapping[str, np.ndarray]) -> None:
        start = self.samples
        a, b = (
            by_sample(model.run(sample)[name], model.batch)
            for model, name in zip(self.models, self._names, strict=True)
        )
        self._signal.add(b, a)
        if a[0].size > 1:
            self._agreement.add(b.reshape(len(b), -1), a.reshape(len(a), -1).argmax(axis=1))
        if self.labels is None:
            return
        labels = self.labels[start : start + len(a)]
        if len(labels) < len(a):
            self._refuse_labels("more samples")
        for tally, answer in zip(self._tallies, (a, b), strict=True):
            tally.add(answer, labels)

    def _refuse_labels(self, there: str) -> None:
        assert self.labels is not None
        what = f"there are {len(self.labels)} labels and {there}"
        raise UsageError(what, where="labels", hint="give a label for each sample")


def _counterpart(output: str, models: Sequence[Runnable]) -> str:
    """The second model's output of the same name, or else in the same place. Raises UsageError."""
    first, second = ([spec.name for spec in model.outputs] for model in models)
    if output in second:
        return output
    place = first.index(output)
    if place >= len(second):
        raise UsageError(
            f"the second model has no output '{output}'", hint=f"its outputs: {', '.join(second)}"
        )
    return second[place]
