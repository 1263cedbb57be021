"""Placement of buffers in several arenas, one in each region of RAM, where no region holds all of them.

Each buffer is in one arena as a whole, and what keeps its distances stays together. Orders are tried one after the
other, with a buffer in the first room where it fits; then a seeded local search changes the order. The one counts that
leaves least over, and of those that leave nothing the one with the fewest bytes moved in later rooms, the slower ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.targets.plan_memory import (
    ORDERS,
    SEARCH_ROUNDS,
    Buffer,
    Nearby,
    Overlaps,
    Plan,
    Region,
    aligned,
    joined,
    lower_bound,
    rounded,
)

FOR_STACK = 512
"""Bytes that one of the rooms had better leave to the stack."""


@dataclass(frozen=True)
class Room:
    """A region of RAM and the bytes that an arena may have there."""

    name: str
    bytes: int


@dataclass(frozen=True)
class _Spread:
    """Room and offset of each region of buffers, and what found no room; `cost` are bytes moved in later rooms."""

    places: dict[str, tuple[int, int]]
    left: tuple[Region, ...]
    sizes: tuple[int, ...]
    cost: int

    def key_in(self, rooms: Sequence[Room]) -> tuple[int, int, int]:
        """The less the better: bytes left over, bytes that the stack may lack, the cost."""
        free = max(room.bytes - size for room, size in zip(rooms, self.sizes, strict=True))
        return sum(region.size for region in self.left), max(0, FOR_STACK - free), self.cost


def spread(
    buffers: Sequence[Buffer], rooms: Sequence[Room], alignment: int, overlaps: Overlaps | None = None
) -> Plan | None:
    """A plan with an arena in each room that is needed, the first ones first; None where none is found.

    Deterministic. Offsets count as if the arenas lay one behind the other.
    """
    wanted = rounded(buffers, alignment)
    regions = joined(wanted, alignment)
    nearby = Nearby(regions, overlaps or {})
    orders = [sorted(regions, key=key) for key in (*ORDERS, lambda r: (-_uses(r) // r.size, -r.size, r.name))]
    tried = [(_fit(order, rooms, nearby), order) for order in orders]
    best, order = min(tried, key=lambda one: one[0].key_in(rooms))
    chance = random.Random(0)
    for _ in range(SEARCH_ROUNDS):
        outside = best.left or [region for region in order if best.places[region.name][0]]
        if not outside:
            break
        moved = list(order)
        source = moved.index(chance.choice(outside) if chance.random() < 0.5 else chance.choice(moved))
        moved.insert(chance.randrange(len(moved)), moved.pop(source))
        trial = _fit(moved, rooms, nearby)
        if trial.key_in(rooms) <= best.key_in(rooms):
            best, order = trial, moved
    if best.left:
        return None
    return _plan(best, rooms, buffers, lower_bound(wanted, overlaps or {}, alignment))


def _uses(region: Region) -> int:
    """Bytes that are written and read in all."""
    return sum(b.size * b.uses for b in region.buffers)


def _fit(order: Sequence[Region], rooms: Sequence[Room], nearby: Nearby) -> _Spread:
    """Each region in the first room with a place for it, at the lowest offset."""
    placed: list[list[tuple[int, Region]]] = [[] for _ in rooms]
    places: dict[str, tuple[int, int]] = {}
    left = []
    sizes = [0] * len(rooms)
    cost = 0
    for region in order:
        for number, room in enumerate(rooms):
            offset = _lowest(region, placed[number], nearby)
            if offset + region.size <= room.bytes:
                placed[number].append((offset, region))
                places[region.name] = number, offset
                sizes[number] = max(sizes[number], offset + region.size)
                cost += number * _uses(region)
                break
        else:
            left.append(region)
    return _Spread(places, tuple(left), tuple(sizes), cost)


def _lowest(region: Region, placed: Sequence[tuple[int, Region]], nearby: Nearby) -> int:
    taken = sorted(
        (start + low, start + high) for start, other in placed for low, high in nearby(region, other)
    )
    offset = 0
    for low, high in taken:
        if low < offset < high:
            offset = aligned(high, region.alignment)
    return offset


def _plan(found: _Spread, rooms: Sequence[Room], buffers: Sequence[Buffer], bound: int) -> Plan:
    sizes = found.sizes
    starts = [sum(sizes[:number]) for number in range(len(rooms))]
    places = {name: starts[number] + offset for name, (number, offset) in found.places.items()}
    offsets = {b.name: places.get(b.region or b.name, 0) + b.offset for b in buffers}
    arenas = tuple((room.name, size) for room, size in zip(rooms, sizes, strict=True) if size)
    return Plan(offsets, sum(sizes), bound, tuple(buffers), arenas=arenas)
