"""Loops whose number of trips is known become as many copies of their body.

    Loop(3, true, s) {body}    -->  body(2, body(1, body(0, s)))
    Scan(s, x[3, ...]) {body}  -->  body(body(body(s, x[0]), x[1]), x[2])

Scan outputs are concatenated slice by slice. The trips of a Loop are known when they follow from constants, through
the body and the carried values where need be. A quantised recurrence stays a Scan: `recognize_recurrence` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import IRError, ModelError
from graphopt.ir import Graph, Node, Value
from graphopt.passes.partial_evaluation import trip_count
from graphopt.passes.recurrences import Recurrence, recurrence_of
from graphopt.rewrite import Any, Builder, Match, Op, Rule


@dataclass(frozen=True)
class UnrollLoop(Rule):
    """Loop with a known number of trips --> its body as often."""

    trips: int
    nodes: int
    name: ClassVar[str] = "unroll-loop"
    pattern = Op("Loop", Any("trips", optional=True), Any("condition", optional=True), more=True)

    def check(self, match: Match) -> str | None:
        node = match.root
        count = trip_count(node, self.trips)
        if isinstance(count, str):
            return count
        if count * len(_body(node)) > self.nodes:
            return f"unrolled it has more than {self.nodes} nodes"
        if not count and not all(_has_static_rows(v) or not wanted(v) for v in self._scanned(node)):
            return "it never runs, and what it would scan has no static shape"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        body, count = _body(node), trip_count(node, self.trips)
        assert isinstance(count, int)
        state = [value for value in node.inputs[2:] if value is not None]
        rows: list[list[Value]] = [[] for _ in self._scanned(node)]
        for trip in range(count):
            start = [_like(build, body.inputs[0], trip), _like(build, body.inputs[1], True), *state]
            results = own(build, _trip(build, node, start))
            state = results[1 : 1 + len(state)]
            for row, value in zip(rows, results[1 + len(state) :], strict=True):
                row.append(value)
        scanned = [
            (_stack(build, row, 0) if row else _nothing(build, value)) if wanted(value) else None
            for value, row in zip(self._scanned(node), rows, strict=True)
        ]
        return [*own(build, state), *scanned]

    @staticmethod
    def _scanned(node: Node) -> tuple[Value, ...]:
        """The scan outputs: those behind the carried values."""
        return node.outputs[len(node.inputs) - 2 :]


@dataclass(frozen=True)
class UnrollScan(Rule):
    """Scan over a known number of slices --> its body as often."""

    trips: int
    nodes: int
    name: ClassVar[str] = "unroll-scan"
    pattern = Op("Scan", more=True)

    def check(self, match: Match) -> str | None:
        node = match.root
        if isinstance(recurrence_of(node), Recurrence):
            return "it is a recurrence of bytes, which has a kernel"
        _, scanned = self._operands(node)
        if not all(value.is_static for value in scanned):
            return "the length of the sequence is not known"
        count = self._length(node)
        if not count:
            return "the sequence is empty"
        if count > self.trips:
            return f"it runs {count} times, more than {self.trips}"
        if count * len(_body(node)) > self.nodes:
            return f"unrolled it has more than {self.nodes} nodes"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        count = self._length(node)
        state, scanned = self._operands(node)
        axes = self._list(node, "scan_input_axes", len(scanned))
        backward = self._list(node, "scan_input_directions", len(scanned))
        rows: list[list[Value]] = [[] for _ in node.outputs[len(state) :]]
        for trip in range(count):
            slices = [
                build.op("Gather", x, build.const(np.int64(count - 1 - trip if back else trip)), axis=axis)
                for x, axis, back in zip(scanned, axes, backward, strict=True)
            ]
            results = own(build, _trip(build, node, [*state, *slices]))
            state = results[: len(state)]
            for row, value in zip(rows, results[len(state) :], strict=True):
                row.append(value)
        out_axes = self._list(node, "scan_output_axes", len(rows))
        out_backward = self._list(node, "scan_output_directions", len(rows))
        outputs = node.outputs[len(state) :]
        stacks = [
            _stack(build, row[::-1] if back else row, axis) if wanted(value) else None
            for value, row, axis, back in zip(outputs, rows, out_axes, out_backward, strict=True)
        ]
        return [*state, *stacks]

    @staticmethod
    def _operands(node: Node) -> tuple[list[Value], list[Value]]:
        """The initial state, and what is scanned."""
        values = [value for value in node.inputs if value is not None]
        first = len(values) - node.int("num_scan_inputs")
        return values[:first], values[first:]

    def _length(self, node: Node) -> int:
        _, scanned = self._operands(node)
        return scanned[0].static_shape[self._list(node, "scan_input_axes", len(scanned))[0]]

    @staticmethod
    def _list(node: Node, name: str, count: int) -> tuple[int, ...]:
        return node.ints(name) or (0,) * count


def wanted(value: Value) -> bool:
    return bool(value.uses) or value.is_graph_output


def own(build: Builder, values: Sequence[Value]) -> list[Value]:
    """The values, through an Identity where one belongs to an enclosing graph, whose output it cannot be."""
    return [v if v.graph is build.graph else build.op("Identity", v) for v in values]


def _body(node: Node) -> Graph:
    body = node.attr("body")
    assert isinstance(body, Graph)
    return body


def _trip(build: Builder, node: Node, arguments: Sequence[Value]) -> tuple[Value, ...]:
    """The results of one more run of the body. Raises ModelError where the body cannot compute with the arguments."""
    try:
        return build.inline(_body(node), arguments)
    except IRError as error:
        place = f"node '{node.origin.known_as(node.name)}' ({node.key}), its body, {error.where}"
        hint = (
            error.hint or "the body must fit the slices and values that it is given: export the model again"
        )
        raise ModelError(error.what, where=place, hint=hint) from None


def _like(build: Builder, argument: Value, number: int) -> Value:
    """A constant for an argument of a body that may be a scalar or a vector of one element."""
    assert argument.type is not None
    return build.const(np.full((1,) * (argument.rank or 0), number, argument.dtype.numpy), name=argument.name)


def _stack(build: Builder, rows: Sequence[Value], axis: int) -> Value:
    slices = [build.op("Unsqueeze", row, build.shape((axis,), "axis")) for row in rows]
    return slices[0] if len(slices) == 1 else build.op("Concat", *slices, axis=axis)


def _has_static_rows(value: Value) -> bool:
    return value.shape is not None and all(isinstance(dim, int) for dim in value.shape[1:])


def _nothing(build: Builder, value: Value) -> Value:
    """A scan output of no trips."""
    assert value.shape is not None
    row = [dim for dim in value.shape[1:] if isinstance(dim, int)]
    return build.const(np.zeros((0, *row), value.dtype.numpy), name=value.name)
