"""The straight-line program of a fused graph: its steps, and where each value lives.

Reshapes cost nothing: their output lives where their input does. A graph output is written straight into the
caller's buffer; every other value and every kernel's workspace gets a slot of the arena.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.liveness import is_alias, storage_roots
from graphopt.errors import UnsupportedError
from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import is_fused
from graphopt.targets.abi import ALIGNMENT, TEXTS_HINT, TensorSpec, not_passable
from graphopt.targets.plan_memory import Buffer, Plan, aligned, plan


@dataclass(frozen=True)
class Place:
    """Where a value lives: `offset` is an input's or output's number, else bytes into the region."""

    region: Literal["input", "output", "weights", "arena"]
    offset: int


NOWHERE = Place("arena", 0)
"""The place of a value without elements that no call writes."""


@dataclass(frozen=True)
class Call:
    """Run `kernel` on these places: inputs, then outputs, then workspaces of `workspaces` bytes."""

    kernel: str
    arguments: tuple[Place, ...]
    node: Node
    workspaces: tuple[int, ...] = ()


@dataclass(frozen=True)
class Copy:
    """Copy `size` bytes: for an output that some other place already holds."""

    source: Place
    target: Place
    size: int


@dataclass(frozen=True)
class Program:
    """Everything the entry function does, and what it needs."""

    steps: tuple[Call | Copy, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: bytes
    plan: Plan

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(step for step in self.steps if isinstance(step, Call))


def needs_kernel(node: Node) -> bool:
    """It computes something: it is no alias, and some output has elements."""
    return not is_alias(node) and any(value.size for value in node.outputs)


def build_program(
    graph: Graph, kernel_of: Mapping[Node, str], workspaces: Mapping[str, tuple[int, ...]]
) -> Program:
    """Lay out the fused `graph`, whose groups are served by the kernels `kernel_of`.

    Raises UnsupportedError for an input or output whose type or shape a library cannot have.
    """
    for where, reason in not_passable(graph):
        raise UnsupportedError(reason, where=where, hint=TEXTS_HINT)
    inputs = tuple(_spec(value, value.name) for value in graph.inputs)
    outputs = tuple(_spec(v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True))
    calls = [node for node in graph.nodes if needs_kernel(node)]
    _check_grouped(graph)
    root = storage_roots(graph)
    places = {value: Place("input", index) for index, value in enumerate(graph.inputs)}
    copies: list[tuple[Value, int]] = []
    for index, value in enumerate(graph.outputs):
        if root[value].producer is None or root[value] in places:
            copies.append((root[value], index))
        else:
            places[root[value]] = Place("output", index)
    weights, weight_places = _pack_weights(graph)
    places.update(weight_places)
    places.update((v, NOWHERE) for v in root.values() if v not in places and not v.size)
    placement, workspace_places = _plan_arena(calls, root, places, kernel_of, workspaces)
    steps: list[Call | Copy] = []
    for number, node in enumerate(calls):
        read = [places[root[v]] for v in node.inputs if v is not None]
        written = [places[v] for v in node.outputs]
        arguments = (*read, *written, *workspace_places[number])
        steps.append(Call(kernel_of[node], arguments, node, workspaces[kernel_of[node]]))
    for value, index in copies:
        steps.append(Copy(places[value], Place("output", index), outputs[index].nbytes))
    return Program(tuple(steps), inputs, outputs, weights, placement)


def storage_bytes(value: Value) -> int:
    """Bytes of a value in a kernel's memory, where every element has whole bytes."""
    return value.size * value.dtype.numpy.itemsize


def _spec(value: Value, name: str) -> TensorSpec:
    where = f"'{name}'"
    if not value.is_static:
        raise UnsupportedError(
            f"its shape {value.type} is not fixed",
            where=where,
            hint="give the input's shape with --input-shape NAME=1,3,224,224",
        )
    return TensorSpec(name, value.dtype, value.static_shape)


def _check_grouped(graph: Graph) -> None:
    for node in graph.nodes:
        if not is_alias(node) and not is_fused(node):
            raise UnsupportedError("it was not grouped", where=f"node '{node.name}' ({node.key})")


def _pack_weights(graph: Graph) -> tuple[bytes, dict[Value, Place]]:
    """All constants one after another, equal ones once, each at an aligned offset."""
    blob = bytearray()
    offsets: dict[bytes, int] = {}
    places = {}
    for value in graph.constants:
        if not value.users and not value.is_graph_output:
            continue
        assert value.constant is not None
        data = np.ascontiguousarray(value.constant).tobytes()
        digest = hashlib.sha256(data).digest()
        if digest not in offsets:
            blob.extend(bytes(-len(blob) % ALIGNMENT))
            offsets[digest] = len(blob)
            blob.extend(data)
        places[value] = Place("weights", offsets[digest])
    return bytes(blob), places


def _plan_arena(
    calls: list[Node],
    root: Mapping[Value, Value],
    places: dict[Value, Place],
    kernel_of: Mapping[Node, str],
    workspaces: Mapping[str, tuple[int, ...]],
) -> tuple[Plan, list[list[Place]]]:
    """Place what has no place yet; adds to `places` and returns the workspaces of each call."""
    last_read: dict[Value, int] = {}
    for number, node in enumerate(calls):
        for value in node.inputs:
            if value is not None:
                last_read[root[value]] = number
    buffers: list[Buffer] = []
    slots: dict[str, Value] = {}
    for number, node in enumerate(calls):
        for value in node.outputs:
            if value not in places:
                slots[value.name] = value
                end = last_read.get(value, number)
                buffers.append(Buffer(value.name, aligned(storage_bytes(value)), number, end))
        for index, size in enumerate(workspaces[kernel_of[node]]):
            buffers.append(Buffer(f"{number}:workspace {index}", size, number, number))
    placement = plan(buffers)
    for name, value in slots.items():
        places[value] = Place("arena", placement.offsets[name])
    scratch = [
        [
            Place("arena", placement.offsets[f"{number}:workspace {index}"])
            for index in range(len(workspaces[kernel_of[node]]))
        ]
        for number, node in enumerate(calls)
    ]
    return placement, scratch
