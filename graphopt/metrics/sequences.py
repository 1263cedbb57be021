"""CER: insertions, deletions and substitutions that turn the answer into the label, over the labels' length.

The distance is Levenshtein's. Outputs are scores [samples, steps, symbols], decoded greedily as CTC's are (the best
symbol of each step, repetitions once, blanks dropped; Graves et al., 2006), or integers [samples, steps]. Negative
integers fill sequences up, in answers and in labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.metrics.base import Metric, ordered

SCORES = 3
"""Axes of outputs that are scores of symbols."""


@dataclass(frozen=True)
class CharacterErrorRate(Metric):
    """`blank` is the symbol that stands for none."""

    blank: int = 0
    name = "cer"
    higher_is_better = False

    def rows(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Edits, and the length of the label."""
        if targets.dtype.kind not in "iu" or targets.ndim != 2:
            raise UsageError(
                f"labels are {targets.dtype}{list(targets.shape)}, not a sequence of symbols for each sample",
                hint="give integers [samples, length], filled up with -1",
            )
        labels = [label[label >= 0] for label in targets]
        answers = self._answers(outputs)
        return np.array(
            [(edits(a, b), len(b)) for a, b in zip(answers, labels, strict=True)], np.float64
        ).reshape(-1, 2)

    def value(self, rows: np.ndarray, weights: np.ndarray) -> float:
        made, length = weights @ rows
        return float(made / length) if length else float("nan")

    def why_undefined(self, rows: np.ndarray) -> str:
        return "all labels are empty, so CER is not defined"

    def _answers(self, outputs: np.ndarray) -> list[np.ndarray]:
        scores = ordered(outputs, "the output")
        if scores.ndim == SCORES:
            return [self._decoded(best) for best in scores.argmax(axis=2)]
        if scores.ndim == SCORES - 1 and scores.dtype.kind in "iu":
            return [answer[answer >= 0] for answer in scores]
        raise UsageError(
            f"the output is {outputs.dtype}{list(outputs.shape[1:])}, not a sequence of symbols",
            hint="CER wants scores [steps, symbols], or integers [steps]",
        )

    def _decoded(self, best: np.ndarray) -> np.ndarray:
        changes = np.append(True, best[1:] != best[:-1])
        return best[changes & (best != self.blank)]


def edits(a: np.ndarray, b: np.ndarray) -> int:
    """Levenshtein's distance, row by row. An insertion's chain along a row is a running minimum."""
    place = np.arange(len(b) + 1)
    costs = place.copy()
    for index, symbol in enumerate(a):
        kept = np.append(index + 1, np.minimum(costs[1:] + 1, costs[:-1] + (b != symbol)))
        costs = np.minimum.accumulate(kept - place) + place
    return int(costs[-1])
