"""Control flow known before run time becomes straight-line code.

    If(true) {then} {else}                       -->  then
    If(c) {a} {b}, both cheap and of one shape   -->  Where(c, a, b)
    Loop(3, true, s) {body}                      -->  body(2, body(1, body(0, s)))
    Scan(s, x[3, ...]) {body}                    -->  body(body(body(s, x[0]), x[1]), x[2])

Scan outputs are concatenated slice by slice. The condition of an If and the trips of a Loop are known when they
follow from constants, though no pass has folded them yet. Where both branches of an If are computed, neither may
fail on operands that are meant for the other: no division of integers by what may be zero, no index from data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Graph, Node, TensorType, Value
from graphopt.passes.fold_constants import RANDOM
from graphopt.passes.partial_evaluation import known_value, trip_count
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Match, Op, Rule

INDEXED = frozenset(
    "Compress Gather GatherElements GatherND OneHot ScatterElements ScatterND TensorScatter".split()
)
"""Operators that read or write where an operand says."""


class InlineIf(Rule):
    """If with a known condition --> the branch that it takes."""

    name = "inline-if"
    pattern = Op("If", Any("condition"))

    def check(self, match: Match) -> str | None:
        return None if _taken(match.root) is not None else "the condition is not known"

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        branch = _taken(match.root)
        assert branch is not None
        return _own(build, build.inline(branch, ()))


@dataclass(frozen=True)
class SelectBranch(Rule):
    """If with an open condition --> both branches, and a Where behind each output."""

    nodes: int
    name: ClassVar[str] = "select-branch"
    pattern: ClassVar[Op] = Op("If", Any("condition"))

    def check(self, match: Match) -> str | None:
        node, condition = match.root, match["condition"]
        branches = _branches(node)
        if _taken(node) is not None:
            return "the condition is known"
        if condition.type is None or not condition.type.is_static or condition.type.size != 1:
            return "the condition is not known to have one element"
        if sum(len(branch) for branch in branches) > self.nodes:
            return f"the branches have more than {self.nodes} nodes"
        for branch in branches:
            for member in branch.nodes:
                reason = _reason_against(member)
                if reason:
                    return f"'{member.name}' {reason}"
        for values in zip(*(branch.outputs for branch in branches), strict=True):
            if not _same_static_type([value.type for value in values]):
                return "the branches differ in type, or a shape is not static"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        condition = match["condition"]
        results = [build.inline(branch, ()) for branch in _branches(match.root)]
        if condition.rank:
            condition = build.op("Reshape", condition, build.shape(()))
        return [
            build.op("Where", condition, *values) if _wanted(output) else None
            for output, *values in zip(match.root.outputs, *results, strict=True)
        ]


@dataclass(frozen=True)
class UnrollLoop(Rule):
    """Loop with a known number of trips --> its body as often."""

    trips: int
    nodes: int
    name: ClassVar[str] = "unroll-loop"
    pattern: ClassVar[Op] = Op(
        "Loop", Any("trips", optional=True), Any("condition", optional=True), more=True
    )

    def check(self, match: Match) -> str | None:
        node = match.root
        count = trip_count(node, self.trips)
        if isinstance(count, str):
            return count
        if count * len(_body(node)) > self.nodes:
            return f"unrolled it has more than {self.nodes} nodes"
        if not count and not all(v.is_static or not _wanted(v) for v in self._scanned(node)):
            return "it never runs, and a shape is not static"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        body, count = _body(node), trip_count(node, self.trips)
        assert isinstance(count, int)
        state = [value for value in node.inputs[2:] if value is not None]
        rows: list[list[Value]] = [[] for _ in self._scanned(node)]
        for trip in range(count):
            start = [_like(build, body.inputs[0], trip), _like(build, body.inputs[1], True), *state]
            results = _own(build, build.inline(body, start))
            state = results[1 : 1 + len(state)]
            for row, value in zip(rows, results[1 + len(state) :], strict=True):
                row.append(value)
        scanned = [
            (_stack(build, row, 0) if row else _nothing(build, value)) if _wanted(value) else None
            for value, row in zip(self._scanned(node), rows, strict=True)
        ]
        return [*_own(build, state), *scanned]

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
    pattern: ClassVar[Op] = Op("Scan", more=True)

    def check(self, match: Match) -> str | None:
        node = match.root
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
        body, count = _body(node), self._length(node)
        state, scanned = self._operands(node)
        axes = self._list(node, "scan_input_axes", len(scanned))
        backward = self._list(node, "scan_input_directions", len(scanned))
        rows: list[list[Value]] = [[] for _ in node.outputs[len(state) :]]
        for trip in range(count):
            slices = [
                build.op("Gather", x, build.const(np.int64(count - 1 - trip if back else trip)), axis=axis)
                for x, axis, back in zip(scanned, axes, backward, strict=True)
            ]
            results = _own(build, build.inline(body, [*state, *slices]))
            state = results[: len(state)]
            for row, value in zip(rows, results[len(state) :], strict=True):
                row.append(value)
        out_axes = self._list(node, "scan_output_axes", len(rows))
        out_backward = self._list(node, "scan_output_directions", len(rows))
        outputs = node.outputs[len(state) :]
        stacks = [
            _stack(build, row[::-1] if back else row, axis) if _wanted(value) else None
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


def _taken(node: Node) -> Graph | None:
    """The branch of an If whose condition is known."""
    condition = known_value(node.input(0), {})
    return None if condition is None else _branches(node)[0 if condition.any() else 1]


def _branches(node: Node) -> tuple[Graph, Graph]:
    then, otherwise = node.attr("then_branch"), node.attr("else_branch")
    assert isinstance(then, Graph) and isinstance(otherwise, Graph)
    return then, otherwise


def _body(node: Node) -> Graph:
    body = node.attr("body")
    assert isinstance(body, Graph)
    return body


def _reason_against(node: Node) -> str:
    """Why a node must not run unless its branch is taken; empty when it may."""
    if node.subgraphs:
        return "holds graphs itself"
    if node.op_type in RANDOM:
        return "is random"
    if node.op_type in ("Div", "Mod") and node.output.type is not None and node.output.dtype.is_integer:
        divisor = node.input(1)
        if divisor is None or divisor.constant is None or not divisor.constant.all():
            return "may divide by zero"
    if node.op_type in INDEXED and (node.input(1) is None or node.inputs[1].constant is None):  # type: ignore[union-attr]
        return "takes indices from data"
    return ""


def _same_static_type(types: Sequence[TensorType | None]) -> bool:
    first = types[0]
    if first is None or not first.is_static:
        return False
    return all(t is not None and t.dtype is first.dtype and t.shape == first.shape for t in types)


def _wanted(value: Value) -> bool:
    return bool(value.uses) or value.is_graph_output


def _own(build: Builder, values: Sequence[Value]) -> list[Value]:
    """The values, through an Identity where one belongs to an enclosing graph, whose output it cannot be."""
    return [v if v.graph is build.graph else build.op("Identity", v) for v in values]


def _like(build: Builder, argument: Value, number: int) -> Value:
    """A constant for an argument of a body that may be a scalar or a vector of one element."""
    assert argument.type is not None
    return build.const(np.full((1,) * (argument.rank or 0), number, argument.dtype.numpy), name=argument.name)


def _stack(build: Builder, rows: Sequence[Value], axis: int) -> Value:
    slices = [build.op("Unsqueeze", row, build.shape((axis,), "axis")) for row in rows]
    return slices[0] if len(slices) == 1 else build.op("Concat", *slices, axis=axis)


def _nothing(build: Builder, value: Value) -> Value:
    """A scan output of no trips."""
    assert value.type is not None
    return build.const(np.zeros((0, *value.static_shape[1:]), value.dtype.numpy), name=value.name)


@dataclass(frozen=True)
class InlineBranches(RulePass):
    """Turn control flow whose way is known into straight-line code.

    `trips` bounds how often a body is repeated, `nodes` what an unrolled loop may hold, `select` the nodes that
    may be computed in vain for an If.
    """

    name: ClassVar[str] = "inline-branches"
    trips: int = 64
    nodes: int = 4096
    select: int = 32

    @property
    def rules(self) -> Sequence[Rule]:
        loops = (UnrollLoop(self.trips, self.nodes), UnrollScan(self.trips, self.nodes))
        return (InlineIf(), SelectBranch(self.select), *loops)
