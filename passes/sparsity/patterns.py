"""Where zeros may stand among the weights of a layer.

    unstructured   anywhere
    2:4            at most two of four weights in a row are not zero; N:M likewise
    1x4            blocks of four weights in a row go together

"In a row" is along what one output sums up: the inputs of a dense layer, and for a convolution the input channels of
one tap. Where these are no multiple of the pattern's length, a layer stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Node

UNSTRUCTURED = "unstructured"
HINT = "write unstructured, 2:4 (two of four stay) or 1x4 (blocks of four)"

SPARSE = 0.3
"""Share of zeros from which on a layer's zeros are held: they were made to be left out."""


def held_zeros(weights: np.ndarray) -> np.ndarray | None:
    """Which of a layer's weights are to stay zero, whatever is done to the others; None for a layer that is not sparse,
    or has nothing else."""
    zeros = weights == 0
    return zeros if SPARSE <= zeros.mean() < 1 else None


@dataclass(frozen=True)
class Pattern:
    """`staying` of each `length` weights stay at most; 0 tells that blocks of `length` go or stay as wholes."""

    name: str
    staying: int = 0
    length: int = 1

    @staticmethod
    def parse(text: str) -> Pattern:
        """Raises UsageError."""
        found = re.fullmatch(r"(\d+)(:|x)(\d+)", text)
        if text == UNSTRUCTURED:
            return Pattern(text)
        if found is None:
            raise UsageError(f"there is no pattern '{text}'", where="pattern", hint=HINT)
        first, length = int(found[1]), int(found[3])
        if found[2] == ":" and 0 < first < length:
            return Pattern(text, first, length)
        if found[2] == "x" and first == 1 and length > 1:
            return Pattern(text, 0, length)
        raise UsageError(
            f"'{text}' leaves nothing out, or is no block of one row", where="pattern", hint=HINT
        )

    @property
    def fixed_ratio(self) -> float | None:
        """The share of zeros, where the pattern says it."""
        return 1 - self.staying / self.length if self.staying else None

    def fits(self, inputs: int) -> bool:
        """Whether so many weights, inputs of one tap, fall into pieces of its length."""
        return inputs % self.length == 0

    def kept(self, scores: np.ndarray, ratio: float) -> np.ndarray:
        """Which weights stay where the `ratio` of (g, m, k) with the least scores goes: a mask of that shape.

        `scores` are non-negative, k in the order of `along_inputs`.
        """
        pieces = scores.reshape(-1, self.length)
        mask = np.zeros(pieces.shape, bool)
        if self.staying:
            best = np.argpartition(-pieces, self.staying - 1, axis=1)[:, : self.staying]
            np.put_along_axis(mask, best, True, axis=1)
            return mask.reshape(scores.shape)
        totals = pieces.sum(1)
        count = round((1 - ratio) * len(totals))
        if count:
            mask[np.argpartition(-totals, count - 1)[:count]] = True
        return mask.reshape(scores.shape)


def inputs_of_tap(node: Node, shape: tuple[int, ...]) -> int:
    """How many weights in a row a pattern runs along."""
    return shape[1] if node.op_type == "Conv" else shape[1 if node.int("transB") else 0]


def along_inputs(node: Node, shape: tuple[int, ...]) -> np.ndarray | None:
    """The order in which weights of one row (k) are to be taken, so that those of one tap stand side by side; None for
    that in which they are."""
    if node.op_type != "Conv" or np.prod(shape[2:]) == 1:
        return None
    return np.arange(np.prod(shape[1:])).reshape(shape[1], -1).T.reshape(-1)
