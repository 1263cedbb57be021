"""Static placement of buffers in one arena.

Each buffer lives from the step that writes it to the last step that reads it. Two buffers may share bytes
when their lives do not meet. The largest sum of sizes alive at one step is a lower bound that no placement
can beat; packing to it is NP-hard (Sekiyama et al., "Profile-guided memory optimization for DNNs", 2018), so
several greedy orders are tried, then a seeded local search on the order, until the bound is reached or
the effort is spent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.targets.abi import ALIGNMENT

SEARCH_ROUNDS = 400
"""Placements the local search may try once the greedy orders have missed the bound."""


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that must stay intact from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Byte offset of each buffer, the arena's size, and the liveness bound it is measured against."""

    offsets: dict[str, int]
    size: int
    lower_bound: int
    buffers: tuple[Buffer, ...] = ()

    @property
    def over_bound(self) -> float:
        """Arena over lower bound: 1.0 is optimal."""
        return self.size / self.lower_bound if self.lower_bound else 1.0


def aligned(size: int) -> int:
    """`size` rounded up to the arena's alignment."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Place `buffers`; deterministic. Sizes count rounded up to the alignment, in the bound too."""
    wanted = [Buffer(b.name, aligned(b.size), b.first, b.last) for b in buffers if b.size > 0]
    bound = lower_bound(wanted)
    best_order: list[Buffer] = []
    best: dict[str, int] = {}
    best_size = -1
    for key in _ORDERS:
        order = sorted(wanted, key=key)
        offsets, size = _first_fit(order)
        if best_size < 0 or size < best_size:
            best_order, best, best_size = order, offsets, size
    if best_size > bound:
        best, best_size = _improve(best_order, best, best_size, bound)
    offsets = {b.name: best.get(b.name, 0) for b in buffers}
    return Plan(offsets, max(best_size, 0), bound, tuple(buffers))


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """The largest number of bytes alive at one step."""
    changes: dict[int, int] = {}
    for b in buffers:
        changes[b.first] = changes.get(b.first, 0) + b.size
        changes[b.last + 1] = changes.get(b.last + 1, 0) - b.size
    alive = peak = 0
    for step in sorted(changes):
        alive += changes[step]
        peak = max(peak, alive)
    return peak


_ORDERS: tuple[Callable[[Buffer], tuple], ...] = (
    lambda b: (-b.size, b.first, b.name),
    lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
    lambda b: (-(b.last - b.first), -b.size, b.first, b.name),
    lambda b: (b.first, -b.size, b.name),
)


def _first_fit(order: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Each buffer at the lowest offset that is free during its life."""
    placed: list[tuple[int, Buffer]] = []
    offsets: dict[str, int] = {}
    size = 0
    for buffer in order:
        offset = 0
        for start, other in placed:  # sorted by offset
            if not buffer.meets(other):
                continue
            if offset + buffer.size <= start:
                break
            offset = max(offset, start + other.size)
        offsets[buffer.name] = offset
        placed.append((offset, buffer))
        placed.sort(key=lambda item: item[0])
        size = max(size, offset + buffer.size)
    return offsets, size


def _improve(
    order: list[Buffer], offsets: dict[str, int], size: int, bound: int
) -> tuple[dict[str, int], int]:
    """Move one buffer at the top of the arena earlier in the order, keep what does not get worse."""
    chance = random.Random(0)
    current, current_offsets, current_size = list(order), offsets, size
    best_offsets, best_size = offsets, size
    for _ in range(SEARCH_ROUNDS):
        top = [i for i, b in enumerate(current) if current_offsets[b.name] + b.size == current_size]
        source = chance.choice(top) if chance.random() < 0.7 else chance.randrange(len(current))
        target = chance.randrange(len(current))
        trial = list(current)
        trial.insert(target, trial.pop(source))
        trial_offsets, trial_size = _first_fit(trial)
        if trial_size <= current_size:
            current, current_offsets, current_size = trial, trial_offsets, trial_size
            if trial_size < best_size:
                best_offsets, best_size = trial_offsets, trial_size
                if best_size == bound:
                    break
    return best_offsets, best_size
