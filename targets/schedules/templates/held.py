"""Inputs held in registers: the vectors that cover what a tile reads of a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cover:
    """Vectors of `width` elements that begin at `starts`, in ascending order; they may overlap."""

    starts: tuple[int, ...]
    width: int

    def place(self, element: int) -> int:
        """Where an element is when the vectors lie one after another."""
        number = bisect_right(self.starts, element) - 1
        return number * self.width + element - self.starts[number]


def cover(elements: Iterable[int], lanes: int, low: int, high: int) -> Cover:
    """The fewest vectors of `lanes` that hold all `elements` and nothing below `low`, or from `high` on.

    Single elements where not even one vector fits between the two.
    """
    width = lanes if high - low >= lanes else 1
    starts: list[int] = []
    for element in sorted(set(elements)):
        if not starts or element >= starts[-1] + width:
            starts.append(min(element, high - width))
    return Cover(tuple(starts), width)
