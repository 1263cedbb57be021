"""Ranges: what values a tensor takes, as calibration saw it; what quantisation is made from.

A range belongs to a value of one graph, by its name, and holds for the whole tensor or for each channel. Ranges know
the graph they were measured on by its digest, so that those of another model are refused.
`graphopt.analysis.ranges_file` writes and reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph
from graphopt.ir.text import to_text

LEFT_OUT_HINT = (
    "give other samples, or exclude the layers that read it; --allow-constant takes what never varies"
)

SHOWN = 5
"""Names of values that a hint lists."""


@dataclass(frozen=True, eq=False)
class Range:
    """`low` and `high` (float64) of a tensor: numbers of no axis, or one for each channel along `axis`."""

    low: np.ndarray
    high: np.ndarray
    axis: int | None = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Range)
            and self.axis == other.axis
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    @property
    def is_constant(self) -> bool:
        """The tensor always has one value throughout."""
        return bool(self.low.min() == self.high.max())

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def whole(self) -> Range:
        """The range of the whole tensor."""
        return Range(np.asarray(self.low.min()), np.asarray(self.high.max()))

    def union(self, other: Range) -> Range:
        """The smallest range that holds both; of the whole tensor where the two are not of one axis."""
        if self.axis != other.axis or self.low.shape != other.low.shape:
            return self.whole().union(other.whole())
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.axis)


class NoRangeError(UsageError, KeyError):
    """There is no range for a value of that name."""

    __str__ = Exception.__str__


@dataclass(frozen=True)
class Ranges(Mapping[str, Range]):
    """Ranges by value name; which observer found them, over how many samples, and the digest of the graph.

    `left_out` has the values that have no range, each with the reason; `data` tells the samples apart.
    """

    by_name: Mapping[str, Range]
    observer: str = ""
    samples: int = 0
    model: str = ""
    data: str = field(default="", compare=False)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Range:
        """Raises NoRangeError, which is a KeyError too, where there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            raise self._no_range(name) from None

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def _no_range(self, name: str) -> NoRangeError:
        where = f"value '{name}'"
        if name in self.left_out:
            return NoRangeError(f"it has no range: {self.left_out[name]}", where=where, hint=LEFT_OUT_HINT)
        known = list(self.by_name)
        more = ", ..." if len(known) > SHOWN else ""
        hint = did_you_mean(name, known, f"values: {', '.join(known[:SHOWN])}{more}" if known else "")
        return NoRangeError("no range is known for it", where=where, hint=hint or "calibrate again")

    def replaced(self, changed: Mapping[str, Range]) -> Ranges:
        """The same with some ranges replaced, or added."""
        return replace(self, by_name={**self.by_name, **changed})

    def merged(self, other: Ranges) -> Ranges:
        """What both have seen: for each value the smallest range that holds both. Raises UsageError for two models."""
        if self.model != other.model:
            raise UsageError("they are ranges of two models, which cannot be merged", hint="calibrate again")
        both = {name: range.union(other[name]) if name in other else range for name, range in self.items()}
        observer = self.observer if self.observer == other.observer else f"{self.observer} + {other.observer}"
        known = {**other.by_name, **both}
        left_out = {n: why for n, why in {**self.left_out, **other.left_out}.items() if n not in known}
        return Ranges(known, observer, self.samples + other.samples, self.model, left_out=left_out)

    def check(self, graph: Graph) -> None:
        """Raise UsageError, with the reason, when these are not the ranges of `graph`."""
        shapes = {value.name: value.shape for value in graph.values() if value.constant is None}
        hint = "calibrate this model"
        unknown = [name for name in self if name not in shapes]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            hint = did_you_mean(unknown[0], shapes, hint)
            raise UsageError(
                f"these ranges are of another model: it has no value '{unknown[0]}'{more}", hint=hint
            )
        for name, range in self.items():
            _check_shape(name, range, shapes[name])
        if self.model and self.model != model_digest(graph):
            what = "these ranges are of another model: names agree, but nodes or weights differ"
            raise UsageError(what, hint=hint)


def _check_shape(name: str, range: Range, shape: tuple[int | str, ...] | None) -> None:
    if range.axis is None or shape is None:
        return
    channels = shape[range.axis] if range.axis < len(shape) else None
    if channels != range.low.size:
        what = f"it has ranges of {range.low.size} channels on axis {range.axis}, its shape is {list(shape)}"
        raise UsageError(what, where=f"value '{name}'", hint="calibrate this model")


def model_digest(graph: Graph) -> str:
    """Equal for graphs of the same nodes, names and weights."""
    text = to_text(graph, weights="digest", origins=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
