"""The best placement of a few regions of memory, by branch and bound.

In the best placement each region lies as low as those below it allow. So placing regions one after another, each at its
lowest place and none below the one before, finds it for one of the orders. A branch ends where a region that is left no
longer fits below the best end so far: what is placed later only pushes it up. Where one may begin in front of another
although they share bytes, an order may step down by that much.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_BRANCHES = 4_000
"""Regions that are placed on trial."""

Intervals = Sequence[tuple[int, int]]


def best_placement(
    sizes: Sequence[int], apart: Sequence[Sequence[Intervals]], alignment: int, size: int, bound: int
) -> tuple[list[int] | None, bool]:
    """Starts with an end below `size`, None where none was found, and whether there is none better.

    `apart[a][b]` are the open intervals of distances from the start of `b` to that of `a` that are forbidden. No
    placement ends below `bound`.
    """
    search = _Search(sizes, apart, alignment, size, bound)
    search.place([0] * len(sizes), {}, 0, 0)
    return search.starts, search.size <= bound or search.left > 0


class _Search:
    def __init__(
        self,
        sizes: Sequence[int],
        apart: Sequence[Sequence[Intervals]],
        alignment: int,
        size: int,
        bound: int,
    ) -> None:
        self._sizes = sizes
        self._apart = apart
        self._alignment = alignment
        self._bound = bound
        self._down = max((-high for row in apart for found in row for _, high in found), default=0)
        self._by_size = sorted(range(len(sizes)), key=lambda number: -sizes[number])
        self.left = MOST_BRANCHES
        self.size = size
        self.starts: list[int] | None = None

    def place(self, lowest: list[int], placed: dict[int, int], last: int, end: int) -> None:
        """Go on from the regions that are `placed`, up to `end`; `lowest` is the lowest place of each other one."""
        if len(placed) == len(self._sizes):
            self.size = end
            self.starts = [placed[number] for number in range(len(self._sizes))]
            return
        waiting = [number for number in self._by_size if number not in placed]
        for number in sorted(waiting, key=lambda n: lowest[n]):
            start = lowest[number]
            if start < last - max(self._down, 0):
                continue
            if self.left <= 0 or self.size <= self._bound:
                return
            self.left -= 1
            ends = max(end, start + self._sizes[number])
            now = {**placed, number: start}
            moved = list(lowest)
            for other in waiting:
                if other != number and self._apart[other][number]:
                    moved[other] = self._lowest(other, now)
            if ends < self.size and all(
                moved[other] + self._sizes[other] < self.size for other in waiting if other != number
            ):
                self.place(moved, now, start, ends)

    def _lowest(self, number: int, placed: dict[int, int]) -> int:
        """The lowest start that is allowed beside those that are placed."""
        taken = sorted(
            (start + low, start + high)
            for other, start in placed.items()
            for low, high in self._apart[number][other]
        )
        found = 0
        for low, high in taken:
            if low < found < high:
                found = -(-high // self._alignment) * self._alignment
        return found
