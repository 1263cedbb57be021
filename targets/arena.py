"""A place in the arena for what a program computes, and for its kernels' workspaces.

A value lives from the call that makes it to the last one that reads it; an input that is in the arena from before the
first call, an output there until behind the last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from graphopt.analysis.storage import Storage
from graphopt.ir import Node, Value
from graphopt.targets.plan_memory import Buffer, Overlap, Plan, aligned, plan
from graphopt.targets.several_arenas import Room, spread

WORKSPACE_USES = 8
"""How often a kernel is taken to go over its workspace: strips are written for what is read again and again."""

BEFORE = -1
"""The step at which the caller writes inputs."""


@dataclass(frozen=True)
class Work:
    """A call: its node, the bytes of its workspaces, and which of its arguments may share memory, by their numbers."""

    node: Node
    workspaces: tuple[int, ...] = ()
    overlaps: Mapping[tuple[int, int], Overlap] | None = None


@dataclass(frozen=True)
class Arena:
    """Where values begin, the workspaces of each call, and the copies that are made behind the last; in bytes."""

    plan: Plan
    offsets: dict[Value, int]
    workspaces: list[list[int]]
    copies: dict[int, int]


def storage_bytes(value: Value) -> int:
    """Bytes of a value in a kernel's memory, where every element has whole bytes."""
    return value.size * value.dtype.numpy.itemsize


def plan_arena(
    calls: Sequence[Work],
    storage: Storage,
    elsewhere: Collection[Value],
    alignment: int,
    *,
    inputs: Sequence[Value] = (),
    outputs: Sequence[Value] = (),
    copies: Mapping[int, int] | None = None,
    rooms: Sequence[Room] = (),
) -> Arena:
    """Place what is computed and not `elsewhere`; `inputs` and `outputs` are the graph's that are in the arena.

    `copies` are the bytes of outputs that lie elsewhere and are copied behind the last call, by number. What fits none
    of the `rooms` is spread over them, if they hold it together.
    """
    reads = _Reads(calls, storage, outputs)
    known: dict[Value, list[Buffer]] = {}
    for number, made in [(BEFORE, inputs), *((n, call.node.outputs) for n, call in enumerate(calls))]:
        for value in made:
            if storage.of(value).root not in elsewhere:
                known[value] = reads.pieces(value, number, alignment)
    buffers = [piece for pieces in known.values() for piece in pieces]
    for number, call in enumerate(calls):
        for index, size in enumerate(call.workspaces):
            name = _workspace(number, index)
            buffers.append(Buffer(name, size, number, number, uses=WORKSPACE_USES))
    for index, size in (copies or {}).items():
        buffers.append(Buffer(_copy(index), size, len(calls), len(calls)))
    allowed: dict[tuple[str, str], Overlap] = {}
    for call in calls:
        allowed.update(_allowed(call, storage, known))
    placement = plan(buffers, alignment, allowed)
    if is_too_large(placement, rooms):
        placement = spread(buffers, rooms, alignment, allowed) or placement
    offsets = {
        storage.of(value).root: placement.offsets[pieces[0].name] - pieces[0].offset
        for value, pieces in known.items()
        if pieces
    }
    scratch = [
        [placement.offsets[_workspace(number, index)] for index in range(len(call.workspaces))]
        for number, call in enumerate(calls)
    ]
    copied = {index: placement.offsets[_copy(index)] for index in copies or {}}
    return Arena(placement, offsets, scratch, copied)


def is_too_large(placement: Plan, rooms: Sequence[Room]) -> bool:
    """It is one arena, and there are rooms of which none holds it."""
    return bool(rooms) and not placement.arenas and placement.size > max(room.bytes for room in rooms)


def _copy(index: int) -> str:
    return f"{index}:output"


def _workspace(number: int, index: int) -> str:
    return f"{number}:workspace {index}"


class _Reads:
    """Which calls read which elements of what is computed, or given: where only parts are read, what lies between their
    ends has a life of its own.
    """

    def __init__(self, calls: Sequence[Work], storage: Storage, outputs: Sequence[Value]) -> None:
        self._storage = storage
        self._by: dict[Value, list[tuple[int, int, int]]] = {}
        for number, call in enumerate(calls):
            for value in call.node.inputs:
                if value is not None:
                    self._note(value, number)
        for value in outputs:
            self._note(value, len(calls))

    def _note(self, value: Value, number: int) -> None:
        start = self._storage.of(value).offset
        for made in self._storage.made_in(value):
            first = start - self._storage.of(made).offset
            span = max(first, 0), min(first + value.size, made.size), number
            self._by.setdefault(made, []).append(span)

    def pieces(self, value: Value, first: int, alignment: int) -> list[Buffer]:
        """The buffer of a value; or several, in one region, which what is joined belongs to as well."""
        reads, width = self._by.get(value, []), value.dtype.numpy.itemsize
        ends = sorted({0, value.size, *(end for low, high, _ in reads for end in (low, high))})
        stretch = self._storage.of(value)
        if len(ends) <= 2 and self._storage.is_alone(value):
            last = max((number for *_, number in reads), default=first)
            size = aligned(storage_bytes(value), alignment)
            return [Buffer(value.name, size, first, last, uses=1 + len(reads))]
        found = []
        for low, high in pairwise(ends):
            last = max((n for start, end, n in reads if start < high and low < end), default=first)
            name = value.name if len(ends) == 2 else f"{value.name}[{low}:{high}]"
            place = (stretch.offset + low) * width
            uses = 1 + sum(start < high and low < end for start, end, _ in reads)
            found.append(Buffer(name, (high - low) * width, first, last, stretch.root.name, place, uses))
        return found


def _allowed(
    call: Work, storage: Storage, known: Mapping[Value, Sequence[Buffer]]
) -> dict[tuple[str, str], Overlap]:
    """What buffers that a call reads last may share with those that it writes; each operand has its say."""
    node, overlaps = call.node, call.overlaps or {}
    read = [value for value in node.inputs if value is not None]
    found: dict[tuple[str, str], list[Overlap | None]] = {}
    for number, made in enumerate(node.outputs, len(read)):
        for operand, value in enumerate(read):
            overlap = overlaps.get((operand, number))
            start = storage.of(value).offset * value.dtype.numpy.itemsize
            sources = [] if value.constant is not None else storage.made_in(value)
            for x in (piece for source in sources for piece in known.get(source, ())):
                for y in known.get(made, ()):
                    if (
                        x.last == y.first
                        and x.offset < start + storage_bytes(value)
                        and start < x.offset + x.size
                    ):
                        begins = y.offset - storage.of(made).offset * made.dtype.numpy.itemsize
                        moved = overlap.moved(x.offset - start - begins) if overlap else None
                        found.setdefault((x.name, y.name), []).append(moved)
    return {
        pair: reduce(Overlap.both, [one for one in said if one]) for pair, said in found.items() if all(said)
    }
