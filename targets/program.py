"""The straight-line program of a fused graph: its steps, and where each value lives.

Values that share bytes (`analysis/storage.py`) have one buffer: a reshape costs nothing, and what is joined is written
side by side. A graph output is written straight into the caller's buffer; every other buffer and every kernel's
workspace gets a slot of the arena.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

from graphopt.analysis.storage import JOIN, PART, Storage, is_alias
from graphopt.errors import IRError, UnsupportedError
from graphopt.ir import KERNEL, Graph, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.runtime.manifest import Signature, Tensor
from graphopt.targets.abi import ALIGNMENT, TEXTS_HINT, not_passable
from graphopt.targets.plan_memory import Buffer, Overlap, Plan, aligned, plan
from graphopt.targets.weights import Weights


@dataclass(frozen=True)
class Place:
    """Where a value lives: `offset` bytes into the region; there are several inputs and outputs, by `number`."""

    region: Literal["input", "output", "weights", "arena"]
    offset: int = 0
    number: int = 0


NOWHERE = Place("arena")
"""The place of a value without elements that no call writes."""


@dataclass(frozen=True)
class Call:
    """Run `kernel` on these places: inputs, then outputs, then workspaces of `workspaces` bytes."""

    kernel: str
    arguments: tuple[Place, ...]
    node: Node
    workspaces: tuple[int, ...] = ()

    @property
    def written(self) -> tuple[tuple[Value, Place], ...]:
        """The node's outputs, and where they are right behind the call."""
        end = len(self.arguments) - len(self.workspaces)
        places = self.arguments[end - len(self.node.outputs) : end]
        return tuple(zip(self.node.outputs, places, strict=True))


@dataclass(frozen=True)
class Copy:
    """Copy `size` bytes: for an output that some other place already holds."""

    source: Place
    target: Place
    size: int


@dataclass(frozen=True)
class Program:
    """Everything the entry function does, and what it needs.

    `in_place` tells the bytes that each concatenation and slice has where they are, so that nothing moves them.
    """

    steps: tuple[Call | Copy, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: Weights
    plan: Plan
    in_place: tuple[tuple[str, int], ...] = ()

    @property
    def signature(self) -> Signature:
        return Signature(self.inputs, self.outputs)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(step for step in self.steps if isinstance(step, Call))


def needs_kernel(node: Node) -> bool:
    """It computes something: it is no alias, and some output has elements."""
    return not is_alias(node) and any(value.size for value in node.outputs)


def build_program(
    graph: Graph,
    kernel_of: Mapping[Node, str],
    workspaces: Mapping[str, tuple[int, ...]],
    weights: Weights | None = None,
    alignment: int = ALIGNMENT,
    *,
    overlaps: Mapping[str, Mapping[tuple[int, int], Overlap]] | None = None,
) -> Program:
    """Lay out the fused `graph`, whose groups are served by the kernels `kernel_of`; buffers start at `alignment`.

    Its constants are added to `weights`, where other programs may have theirs. `overlaps` tells of each kernel which
    parameters may share memory, by their numbers; without it none may.

    Raises UnsupportedError for an input or output whose type or shape a library cannot have.
    """
    for where, reason in not_passable(graph):
        raise UnsupportedError(reason, where=where, hint=TEXTS_HINT)
    inputs = tuple(_spec(value, value.name) for value in graph.inputs)
    outputs = tuple(_spec(v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True))
    calls = [node for node in graph.nodes if needs_kernel(node)]
    _check_grouped(graph)
    storage = Storage(graph)
    places = {value: Place("input", number=index) for index, value in enumerate(graph.inputs)}
    held = Weights() if weights is None else weights
    places.update(_place_weights(graph, held))
    copies: list[tuple[Value, int]] = []
    for index, value in enumerate(graph.outputs):
        root = _buffer(value, storage)
        if root.producer is None or root in places:
            copies.append((root, index))
        else:
            places[root] = Place("output", number=index)
    places.update((v, NOWHERE) for v in graph.values() if v not in places and not v.size)
    placement, workspace_places = _plan_arena(
        calls, storage, places, kernel_of, workspaces, alignment, overlaps or {}
    )

    def place(value: Value) -> Place:
        stretch = storage.of(value)
        start = places[stretch.root]
        return replace(start, offset=start.offset + stretch.offset * value.dtype.numpy.itemsize)

    steps: list[Call | Copy] = []
    for number, node in enumerate(calls):
        read = [place(v) for v in node.inputs if v is not None]
        written = [place(v) for v in node.outputs]
        arguments = (*read, *written, *workspace_places[number])
        steps.append(Call(kernel_of[node], arguments, node, workspaces[kernel_of[node]]))
    for value, index in copies:
        steps.append(Copy(places[value], Place("output", number=index), outputs[index].nbytes))
    return Program(tuple(steps), inputs, outputs, held, placement, _in_place(graph))


def _in_place(graph: Graph) -> tuple[tuple[str, int], ...]:
    """The name and the bytes of each Join and Part; without those that had to be copied for it."""
    found = []
    for node in graph.nodes:
        if node.is_op(JOIN, PART, domain=KERNEL):
            copied = sum(storage_bytes(v) for v in node.inputs if v is not None and _is_copy(v))
            found.append((node.name, storage_bytes(node.output) - copied))
    return tuple(found)


def _is_copy(value: Value) -> bool:
    producer = value.producer
    if producer is None or not is_fused(producer):
        return False
    return all(node.is_op("Identity") for node in body_of(producer).nodes)


def _buffer(output: Value, storage: Storage) -> Value:
    """The value whose bytes an output of the graph has, from its first to its last."""
    stretch = storage.of(output)
    if stretch.root.size != output.size:
        raise IRError("an output of the graph cannot be a part of a buffer", where=f"'{output.name}'")
    return stretch.root


def storage_bytes(value: Value) -> int:
    """Bytes of a value in a kernel's memory, where every element has whole bytes."""
    return value.size * value.dtype.numpy.itemsize


def _spec(value: Value, name: str) -> Tensor:
    where = f"'{name}'"
    if not value.is_static:
        raise UnsupportedError(
            f"its shape {value.type} is not fixed",
            where=where,
            hint="give the input's shape with --input-shape NAME=1,3,224,224",
        )
    return Tensor(name, value.dtype, value.static_shape)


def _check_grouped(graph: Graph) -> None:
    for node in graph.nodes:
        if not is_alias(node) and not is_fused(node):
            raise UnsupportedError("it was not grouped", where=f"node '{node.name}' ({node.key})")


def _place_weights(graph: Graph, weights: Weights) -> dict[Value, Place]:
    places = {}
    for value in graph.constants:
        if value.users or value.is_graph_output:
            assert value.constant is not None
            places[value] = Place("weights", weights.place(value.constant))
    return places


def _plan_arena(
    calls: list[Node],
    storage: Storage,
    places: dict[Value, Place],
    kernel_of: Mapping[Node, str],
    workspaces: Mapping[str, tuple[int, ...]],
    alignment: int,
    overlaps: Mapping[str, Mapping[tuple[int, int], Overlap]],
) -> tuple[Plan, list[list[Place]]]:
    """Place what has no place yet; adds to `places` and returns the workspaces of each call."""
    last_read: dict[Value, int] = {}
    for number, node in enumerate(calls):
        for value in node.inputs:
            if value is not None:
                last_read.update(dict.fromkeys(storage.made_in(value), number))
    buffers: list[Buffer] = []
    known: dict[Value, Buffer] = {}
    for number, node in enumerate(calls):
        for value in node.outputs:
            root = storage.of(value).root
            if root not in places:
                buffer = _slot(value, storage, number, last_read.get(value, number), alignment)
                known[root] = buffer
                buffers.append(buffer)
        for index, size in enumerate(workspaces[kernel_of[node]]):
            buffers.append(Buffer(f"{number}:workspace {index}", size, number, number))
    allowed: dict[tuple[str, str], Overlap] = {}
    lives = {buffer.name: buffer for buffer in buffers}
    for node in calls:
        allowed.update(_allowed(node, storage, lives, overlaps.get(kernel_of[node], {})))
    placement = plan(buffers, alignment, allowed)
    for root, buffer in known.items():
        places[root] = Place("arena", placement.offsets[buffer.name] - buffer.offset)
    scratch = [
        [
            Place("arena", placement.offsets[f"{number}:workspace {index}"])
            for index in range(len(workspaces[kernel_of[node]]))
        ]
        for number, node in enumerate(calls)
    ]
    return placement, scratch


def _slot(value: Value, storage: Storage, first: int, last: int, alignment: int) -> Buffer:
    """The buffer of a computed value; those that are joined belong to one region."""
    size = storage_bytes(value)
    if storage.is_alone(value):
        return Buffer(value.name, aligned(size, alignment), first, last)
    stretch = storage.of(value)
    start = stretch.offset * value.dtype.numpy.itemsize
    return Buffer(value.name, size, first, last, stretch.root.name, start)


def _allowed(
    node: Node, storage: Storage, lives: Mapping[str, Buffer], overlaps: Mapping[tuple[int, int], Overlap]
) -> dict[tuple[str, str], Overlap]:
    """What buffers that `node` reads last may share with those that it writes; each operand has its say."""
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
