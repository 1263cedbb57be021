"""Static placement of buffers in one arena.

Each buffer lives from the step that writes it to the last step that reads it. Two buffers may share bytes
when their lives do not meet. The largest sum of sizes alive at one step is a lower bound that no placement
can beat; packing to it is NP-hard (Sekiyama et al., "Profile-guided memory optimization for DNNs", 2018), so
several greedy orders are tried, then a seeded local search on the order, then branch and bound, until the bound is
reached or the effort is spent. Few buffers are placed as well as can be.

Buffers may belong together: those of one region keep their distances, and each still has a life of its own, so that
what lies in the rest of a region does not wait for it.

A buffer that is read for the last time by the step that writes another one may share bytes with it, as far as that
step allows: an `Overlap`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from graphopt.targets.abi import ALIGNMENT
from graphopt.targets.exact_placement import best_placement

SEARCH_ROUNDS = 400
"""Placements the local search may try once the greedy orders have missed the bound."""


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that must stay intact from step `first` to step `last`, both included.

    They lie `offset` bytes behind the start of `region`, where they belong to one. They are written and read `uses`
    times in all.
    """

    name: str
    size: int
    first: int
    last: int
    region: str = ""
    offset: int = 0
    uses: int = 1

    def meets(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Overlap:
    """What two buffers may share, of which the first is read for the last time while the second is written: the first
    begins `least` bytes or more behind the start of the second, or, where `in_place`, with it."""

    least: int
    in_place: bool = False

    def both(self, other: Overlap) -> Overlap:
        """What either allows."""
        return Overlap(max(self.least, other.least), self.in_place and other.in_place)

    def moved(self, by: int) -> Overlap:
        """The same for a buffer that begins `by` bytes further on."""
        return Overlap(self.least + by, self.in_place and by == 0)

    def most(self, read: int, written: int, alignment: int = 1) -> int:
        """Bytes that buffers of these sizes can share, whose starts are multiples of `alignment` apart."""
        distance = 0 if self.in_place else aligned(max(self.least, 0), alignment)
        return max(0, min(read, written - distance))

    def forbidden(self, read: int, written: int) -> list[tuple[int, int]]:
        """Open intervals of distances, from the start of what is written to the start of what is read."""
        end = min(written, self.least)
        if self.in_place and end > 0:
            return [(-read, 0), (0, end)]
        return [(-read, end)] if end > -read else []


Overlaps = Mapping[tuple[str, str], Overlap]
"""(name of what is read, name of what is written) -> what they may share."""


@dataclass(frozen=True)
class Plan:
    """Byte offset of each buffer, the arena's size, and the liveness bound it is measured against.

    `is_best`: no placement of these buffers is smaller. `arenas` are the names and sizes of several arenas, which the
    offsets take for one behind the other; empty where there is one.
    """

    offsets: dict[str, int]
    size: int
    lower_bound: int
    buffers: tuple[Buffer, ...] = ()
    is_best: bool = False
    arenas: tuple[tuple[str, int], ...] = ()

    @property
    def over_bound(self) -> float:
        """Arena over lower bound: 1.0 is optimal."""
        return self.size / self.lower_bound if self.lower_bound else 1.0


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    """`size` rounded up to the arena's alignment."""
    return (size + alignment - 1) // alignment * alignment


def plan(buffers: Sequence[Buffer], alignment: int = ALIGNMENT, overlaps: Overlaps | None = None) -> Plan:
    """Place `buffers`; deterministic. Regions, and buffers that belong to none, start at the alignment; the sizes of
    the latter count rounded up to it, in the bound too. Without `overlaps` what lives together shares nothing.
    """
    allowed = overlaps or {}
    wanted = rounded(buffers, alignment)
    bound = lower_bound(wanted, allowed, alignment)
    regions = joined(wanted, alignment)
    nearby = Nearby(regions, allowed)
    best_order: list[Region] = []
    best: dict[str, int] = {}
    best_size = -1
    for key in ORDERS:
        order = sorted(regions, key=key)
        starts, size = _first_fit(order, nearby)
        if best_size < 0 or size < best_size:
            best_order, best, best_size = order, starts, size
    if best_size > bound:
        best, best_size = _improve(best_order, best, best_size, bound, nearby)
    is_best = best_size <= bound
    if not is_best:
        apart = [[nearby(a, b) for b in regions] for a in regions]
        found, is_best = best_placement([r.size for r in regions], apart, alignment, best_size, bound)
        if found is not None:
            best = {region.name: start for region, start in zip(regions, found, strict=True)}
            best_size = max(best[region.name] + region.size for region in regions)
    offsets = {b.name: best.get(b.region or b.name, 0) + b.offset for b in buffers}
    return Plan(offsets, max(best_size, 0), bound, tuple(buffers), is_best)


def rounded(buffers: Sequence[Buffer], alignment: int) -> list[Buffer]:
    """Those that have bytes; the sizes of those that belong to no region up to the alignment."""
    return [
        replace(b, size=b.size if b.region else aligned(b.size, alignment)) for b in buffers if b.size > 0
    ]


@dataclass(frozen=True)
class Region:
    """Buffers that keep their distances; most often a single one."""

    name: str
    buffers: tuple[Buffer, ...]
    alignment: int

    @cached_property
    def size(self) -> int:
        return aligned(max(b.offset + b.size for b in self.buffers), self.alignment)

    @cached_property
    def first(self) -> int:
        return min(b.first for b in self.buffers)

    @cached_property
    def last(self) -> int:
        return max(b.last for b in self.buffers)


def joined(buffers: Sequence[Buffer], alignment: int) -> list[Region]:
    """The regions of the buffers; one of its own for each that belongs to none."""
    members: dict[str, list[Buffer]] = {}
    for buffer in buffers:
        members.setdefault(buffer.region or buffer.name, []).append(buffer)
    return [Region(name, tuple(found), alignment) for name, found in members.items()]


class Nearby:
    """For two regions, the distances from the second's start to the first's at which buffers that live together
    share bytes: open intervals."""

    def __init__(self, regions: Sequence[Region], overlaps: Overlaps) -> None:
        self._distances: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for a, b in itertools.combinations(regions, 2):
            if a.first <= b.last and b.first <= a.last:
                found = {
                    (low + y.offset - x.offset, high + y.offset - x.offset)
                    for x, y in itertools.product(a.buffers, b.buffers)
                    if x.meets(y)
                    for low, high in _apart(x, y, overlaps)
                }
                self._distances[a.name, b.name] = sorted(found)
                self._distances[b.name, a.name] = sorted((-high, -low) for low, high in found)

    def __call__(self, a: Region, b: Region) -> list[tuple[int, int]]:
        return self._distances.get((a.name, b.name), [])


def _apart(x: Buffer, y: Buffer, overlaps: Overlaps) -> list[tuple[int, int]]:
    """Distances from the start of `y` to that of `x` at which they share what they must not: open intervals."""
    if (x.name, y.name) in overlaps:
        return overlaps[x.name, y.name].forbidden(x.size, y.size)
    if (y.name, x.name) in overlaps:
        return [(-high, -low) for low, high in overlaps[y.name, x.name].forbidden(y.size, x.size)]
    return [(-x.size, y.size)]


def lower_bound(buffers: Sequence[Buffer], overlaps: Overlaps | None = None, alignment: int = 1) -> int:
    """The largest number of bytes alive at one step, less what buffers can share there."""
    changes: dict[int, int] = {}
    for b in buffers:
        changes[b.first] = changes.get(b.first, 0) + b.size
        changes[b.last + 1] = changes.get(b.last + 1, 0) - b.size
    shared = _shared(buffers, overlaps or {}, alignment)
    changes.update((step + 1, changes.get(step + 1, 0)) for step in shared)
    alive = peak = 0
    for step in sorted(changes):
        alive += changes[step]
        peak = max(peak, alive - shared.get(step, 0))
    return peak


def _shared(buffers: Sequence[Buffer], overlaps: Overlaps, alignment: int) -> dict[int, int]:
    """Bytes that the buffers of a step can share at most, where there are such: what is read lies apart."""
    known = {b.name: b for b in buffers}
    most: Counter[str] = Counter()
    for (read, written), overlap in overlaps.items():
        if read in known and written in known:
            together = known[read].region or known[written].region
            most[written] += overlap.most(known[read].size, known[written].size, 1 if together else alignment)
    found: Counter[int] = Counter()
    for written, shared in most.items():
        found[known[written].first] += min(shared, known[written].size)
    return found


# The third from the end is for overlaps: what is written lies in front of what is read, so a chain is placed from its
# end. The last two place first what grows and shrinks, and then what fits beside it at each step.
ORDERS: tuple[Callable[[Region], tuple], ...] = (
    lambda b: (-b.size, b.first, b.name),
    lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
    lambda b: (-(b.last - b.first), -b.size, b.first, b.name),
    lambda b: (b.first, -b.size, b.name),
    lambda b: (-b.last, -b.first, -b.size, b.name),
    lambda b: (len(b.buffers) == 1, -b.last, -b.size, b.name),
    lambda b: (len(b.buffers) == 1, -b.size, -b.last, b.name),
)


def _first_fit(order: Sequence[Region], nearby: Nearby) -> tuple[dict[str, int], int]:
    """Each region at the lowest offset where its buffers are free during their lives."""
    placed: list[tuple[int, Region]] = []
    size = 0
    for region in order:
        taken = sorted(
            (start + low, start + high) for start, other in placed for low, high in nearby(region, other)
        )
        offset = 0
        for low, high in taken:
            if low < offset < high:
                offset = aligned(high, region.alignment)
        placed.append((offset, region))
        size = max(size, offset + region.size)
    return {region.name: start for start, region in placed}, size


def _improve(
    order: list[Region], starts: dict[str, int], size: int, bound: int, nearby: Nearby
) -> tuple[dict[str, int], int]:
    """Move one region at the top of the arena earlier in the order, keep what does not get worse."""
    chance = random.Random(0)
    current, current_starts, current_size = list(order), starts, size
    best_starts, best_size = starts, size
    for _ in range(SEARCH_ROUNDS):
        top = [i for i, r in enumerate(current) if current_starts[r.name] + r.size == current_size]
        source = chance.choice(top) if chance.random() < 0.7 else chance.randrange(len(current))
        target = chance.randrange(len(current))
        trial = list(current)
        trial.insert(target, trial.pop(source))
        trial_starts, trial_size = _first_fit(trial, nearby)
        if trial_size <= current_size:
            current, current_starts, current_size = trial, trial_starts, trial_size
            if trial_size < best_size:
                best_starts, best_size = trial_starts, trial_size
                if best_size == bound:
                    break
    return best_starts, best_size
