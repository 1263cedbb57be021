"""A place in the arena for what a program computes, and for its kernels' workspaces.

A value lives from the call that makes it to the last one that reads it; an input that is in the arena from before the
first call, an output there until behind the last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from graphopt.analysis.storage import Storage
from graphopt.ir import Node, Value
from graphopt.targets.plan_memory import Buffer, Overlap, Plan, aligned, plan

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
) -> Arena:
    """Place what is computed and not `elsewhere`; `inputs` and `outputs` are the graph's that are in the arena.

    `copies` are the bytes of outputs that lie elsewhere and are copied behind the last call, by number.
    """
    last_read: dict[Value, int] = {}
    for number, call in enumerate(calls):
        for value in call.node.inputs:
            if value is not None:
                last_read.update(dict.fromkeys(storage.made_in(value), number))
    for value in outputs:
        last_read.update(dict.fromkeys(storage.made_in(value), len(calls)))
    buffers: list[Buffer] = []
    known: dict[Value, Buffer] = {}
    for number, made in [(BEFORE, inputs), *((n, call.node.outputs) for n, call in enumerate(calls))]:
        for value in made:
            root = storage.of(value).root
            if root not in elsewhere:
                buffer = _slot(value, storage, number, last_read.get(value, number), alignment)
                known[root] = buffer
                buffers.append(buffer)
    for number, call in enumerate(calls):
        for index, size in enumerate(call.workspaces):
            buffers.append(Buffer(_workspace(number, index), size, number, number))
    for index, size in (copies or {}).items():
        buffers.append(Buffer(_copy(index), size, len(calls), len(calls)))
    lives = {buffer.name: buffer for buffer in buffers}
    allowed: dict[tuple[str, str], Overlap] = {}
    for call in calls:
        allowed.update(_allowed(call, storage, lives))
    placement = plan(buffers, alignment, allowed)
    offsets = {root: placement.offsets[buffer.name] - buffer.offset for root, buffer in known.items()}
    scratch = [
        [placement.offsets[_workspace(number, index)] for index in range(len(call.workspaces))]
        for number, call in enumerate(calls)
    ]
    copied = {index: placement.offsets[_copy(index)] for index in copies or {}}
    return Arena(placement, offsets, scratch, copied)


def _copy(index: int) -> str:
    return f"{index}:output"


def _workspace(number: int, index: int) -> str:
    return f"{number}:workspace {index}"


def _slot(value: Value, storage: Storage, first: int, last: int, alignment: int) -> Buffer:
    """The buffer of a computed value; those that are joined belong to one region."""
    size = storage_bytes(value)
    if storage.is_alone(value):
        return Buffer(value.name, aligned(size, alignment), first, last)
    stretch = storage.of(value)
    start = stretch.offset * value.dtype.numpy.itemsize
    return Buffer(value.name, size, first, last, stretch.root.name, start)


def _allowed(call: Work, storage: Storage, lives: Mapping[str, Buffer]) -> dict[tuple[str, str], Overlap]:
    """What buffers that a call reads last may share with those that it writes; each operand has its say."""
    node, overlaps = call.node, call.overlaps or {}
    read = [value for value in node.inputs if value is not None]
    found: dict[tuple[str, str], list[Overlap | None]] = {}
    for number, written in enumerate(node.outputs, len(read)):
        for operand, value in enumerate(read):
            overlap = overlaps.get((operand, number))
            for made in [] if value.constant is not None else storage.made_in(value):
                if made.name in lives and written.name in lives:
                    ahead = (storage.of(made).offset - storage.of(value).offset) * value.dtype.numpy.itemsize
                    moved = overlap.moved(ahead) if overlap else None
                    found.setdefault((made.name, written.name), []).append(moved)
    return {
        (a, b): reduce(Overlap.both, [one for one in said if one])
        for (a, b), said in found.items()
        if all(said) and lives[a].last == lives[b].first
    }
