"""The straight-line program of a fused graph: its steps, and where each value lives.

Values that share bytes (`analysis/storage.py`) have one buffer: a reshape costs nothing, and what is joined is written
side by side. A graph output is written straight into the caller's buffer; every other buffer and every kernel's
workspace gets a slot of the arena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from graphopt.analysis.storage import ALIASES, JOIN, PART, Storage, is_alias
from graphopt.errors import IRError, UnsupportedError
from graphopt.ir import KERNEL, Graph, Node, Use, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.runtime.manifest import Signature, Tensor
from graphopt.targets.abi import ALIGNMENT, TEXTS_HINT, not_passable
from graphopt.targets.arena import Work, is_too_large, plan_arena, storage_bytes
from graphopt.targets.execution_order import least_peak_order
from graphopt.targets.plan_memory import Overlap, Plan
from graphopt.targets.several_arenas import Room
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
    """Run `kernel` on these places: inputs, then outputs, then workspaces of `workspaces` bytes. `name` is
    the user's, where it is another one than the node's."""

    kernel: str
    arguments: tuple[Place, ...]
    node: Node
    workspaces: tuple[int, ...] = ()
    name: str = ""

    @property
    def known_as(self) -> str:
        """What the user calls it."""
        return self.name or self.node.name

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
    `input_places` and `output_places` are where the caller writes and reads.
    """

    steps: tuple[Call | Copy, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: Weights
    plan: Plan
    in_place: tuple[tuple[str, int], ...] = ()
    input_places: tuple[Place, ...] = ()
    output_places: tuple[Place, ...] = ()

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
    tensors_in_arena: bool = False,
    reorder: bool = False,
    rooms: Sequence[Room] = (),
    names: Mapping[Node, str] | None = None,
) -> Program:
    """Lay out the fused `graph`, whose groups are served by the kernels `kernel_of`; buffers start at `alignment`.

    Its constants are added to `weights`, where other programs may have theirs. `overlaps` tells of each kernel which
    parameters may share memory, by their numbers; without it none may. With `tensors_in_arena` inputs and outputs have
    places in the arena, where a run may write over an input; otherwise they are the caller's buffers. With `reorder`
    calls run in another order than the graph's where that takes a smaller arena. What fits none of the `rooms` is
    spread over them, if they hold it together. `names` are what the user calls the nodes.

    Raises UnsupportedError for an input or output whose type or shape a library cannot have.
    """
    for where, reason in not_passable(graph):
        raise UnsupportedError(reason, where=where, hint=TEXTS_HINT)
    inputs = tuple(_spec(value, value.name) for value in graph.inputs)
    outputs = tuple(_spec(v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True))
    calls = [node for node in graph.nodes if needs_kernel(node)]
    _check_grouped(graph)
    storage = Storage(graph)
    held = Weights() if weights is None else weights
    places = _place_weights(graph, held)
    if not tensors_in_arena:
        places.update((value, Place("input", number=index)) for index, value in enumerate(graph.inputs))
    ends = [_buffer(value, storage) for value in graph.outputs]
    copied: list[int] = []
    for index, root in enumerate(ends):
        if root in places:
            copied.append(index)
        elif not tensors_in_arena:
            places[root] = Place("output", number=index)
    places.update((v, NOWHERE) for v in graph.values() if v not in places and not v.size)
    work = [Work(node, workspaces[kernel_of[node]], (overlaps or {}).get(kernel_of[node])) for node in calls]
    sides = {"inputs": graph.inputs, "outputs": graph.outputs} if tensors_in_arena else {}
    copies = {index: outputs[index].nbytes for index in copied} if tensors_in_arena else {}
    arena = plan_arena(work, storage, places, alignment, copies=copies, rooms=rooms, **sides)
    if reorder:
        ordered = [work[number] for number in least_peak_order(work, storage, places, **sides)]
        other = plan_arena(ordered, storage, places, alignment, copies=copies, rooms=rooms, **sides)
        keys = [(is_too_large(p, rooms), len(p.arenas), p.size) for p in (other.plan, arena.plan)]
        if keys[0] < keys[1]:
            arena, work = other, ordered
    places.update((root, Place("arena", offset)) for root, offset in arena.offsets.items())

    def place(value: Value) -> Place:
        stretch = storage.of(value)
        start = places[stretch.root]
        return replace(start, offset=start.offset + stretch.offset * value.dtype.numpy.itemsize)

    steps: list[Call | Copy] = []
    for number, node in enumerate(call.node for call in work):
        read = [place(v) for v in node.inputs if v is not None]
        written = [place(v) for v in node.outputs]
        scratch = [Place("arena", offset) for offset in arena.workspaces[number]]
        arguments = (*read, *written, *scratch)
        name = (names or {}).get(node, "")
        steps.append(Call(kernel_of[node], arguments, node, workspaces[kernel_of[node]], name))
    made = [place(value) for value in graph.outputs]
    for index in copied:
        target = Place("arena", arena.copies[index]) if tensors_in_arena else Place("output", number=index)
        steps.append(Copy(made[index], target, outputs[index].nbytes))
        made[index] = target
    given = tuple(place(value) for value in graph.inputs)
    return Program(tuple(steps), inputs, outputs, held, arena.plan, _in_place(graph), given, tuple(made))


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


def _needs_bytes(use: Use) -> bool:
    """Of a constant; the shape that a Reshape wants is known when it is compiled."""
    return not use.node.is_op(*ALIASES) or use.index == 0


def _place_weights(graph: Graph, weights: Weights) -> dict[Value, Place]:
    places = {}
    for value in graph.constants:
        if value.is_graph_output or any(_needs_bytes(use) for use in value.uses):
            assert value.constant is not None
            places[value] = Place("weights", weights.place(value.constant))
    return places
