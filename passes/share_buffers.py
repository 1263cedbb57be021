"""Concatenations and slices without copies, where the elements lie one behind the other.

    Concat(a, b, ...)              -->   kernel::Join(a, b, ...)       whoever makes a, b, ... writes them side by side
    Split(x), Slice(x)             -->   kernel::Part(x) {offset}      the stretch of x itself
    Concat(a, b, c), Concat(a, b)  -->   Join(Join(a, b), c)           a longer one takes in the shorter whole
    Concat(Split(x), ...)          -->   Join(x, ...)                  parts that come together again

The elements of an operand are together when all axes before the concatenated one have length 1: channels of a single
image, in blocks too. An operand that has its place elsewhere is copied there: an input or output of the graph, a
constant, a part, what another concatenation has already, and the second of two equal ones. Where that would be more
than half of the bytes the concatenation stays, and is a kernel of its own. DenseNet's concatenations grow in one
buffer so. Source: Pleiss et al., "Memory-efficient implementation of DenseNets", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from graphopt.analysis.storage import ALIASES, JOIN, PART
from graphopt.ir import KERNEL, Graph, Node, Value
from graphopt.ir.fused import fuse_nodes
from graphopt.passes.algebra import slice_starts
from graphopt.passes.assign_layout import ELEMENTWISE
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics

MOST_COPIED = 0.5
"""Share of a concatenation's elements that may be copied into its buffer."""


@dataclass(frozen=True)
class ShareBuffers(Pass):
    """Let concatenations be written in place, and slices be read where they lie."""

    name: ClassVar[str] = "share-buffers"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        work = _Sharing(graph, self.name)
        for node in list(graph.nodes):
            reason = work.convert(node)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt(self.name, node.name, node.key, reason))
            statistics.fired[self.name] += not reason
        graph.remove_unused_constants()


class _Sharing:
    """`joined` are the values that have their place in a concatenation; `known` are the concatenations so far."""

    def __init__(self, graph: Graph, rule: str) -> None:
        self.graph = graph
        self.rule = rule
        self.joined: set[Value] = set()
        self.known: dict[tuple[Value, ...], Value] = {}

    def convert(self, node: Node) -> str:
        """Replace `node`; or say why not."""
        if not node.is_op("Concat", "Slice", "Split"):
            return "it neither joins nor takes apart"
        if not all(v.is_static for v in node.outputs) or not any(v.size for v in node.outputs):
            return "its result is empty, or has no fixed shape"
        return self._concat(node) if node.is_op("Concat") else self._parts(node)

    # --- parts ---

    def _parts(self, node: Node) -> str:
        x = node.input(0)
        assert x is not None
        if not x.is_static:
            return "its input has no fixed shape"
        offsets = _starts_of_split(node, x) if node.is_op("Split") else _start_of_slice(node, x)
        if offsets is None:
            return "it does not take elements that lie together"
        if node.is_op("Slice") and _can_be_cut_short(x):
            return "what makes its input need not make the rest"
        build = Builder(self.graph, node, node.origin.merged(self.rule, [node]))
        made = [
            (value.name, self._part(build, x, offset, value))
            for value, offset in zip(node.outputs, offsets, strict=True)
            if value.size
        ]
        if not any(value.uses or value.is_graph_output for value in node.outputs):
            self.graph.remove(node)
        for name, part in made:
            self.graph.rename(part, name, keep_if_taken=True)
        return ""

    def _part(self, build: Builder, x: Value, offset: int, value: Value) -> Value:
        """The stretch of `x` that takes the place of `value`."""
        assert value.type is not None
        (part,) = build.ops(PART, x, outputs=1, domain=KERNEL, types=(value.type,), offset=offset)
        if _leaves(value):
            return self._copied(build, part, value.replace_uses)
        value.replace_uses(part)
        return part

    # --- concatenations ---

    def _concat(self, node: Node) -> str:
        axis = node.int("axis") % len(node.output.static_shape)
        if math.prod(node.output.static_shape[:axis]) != 1:
            return "its operands would not lie together"
        operands = self._shortened([v for v in node.inputs if v is not None and v.size])
        kept = self._placed(operands)
        copied = sum(v.size for v, keep in zip(operands, kept, strict=True) if not keep)
        if copied > MOST_COPIED * node.output.size:
            return "more would be copied than written in place"
        build = Builder(self.graph, node, node.origin.merged(self.rule, [node]))
        assert node.output.type is not None
        (made,) = build.ops(JOIN, *operands, outputs=1, domain=KERNEL, types=(node.output.type,))
        assert made.producer is not None
        self._copy_into(made.producer, [number for number, keep in enumerate(kept) if not keep])
        self.joined.update(_base(v) for v in made.producer.inputs if v is not None)
        self.known[tuple(v for v in node.inputs if v is not None and v.size)] = made
        node_name, value_name = node.name, node.output.name
        node.output.replace_uses(made)
        self.graph.remove(node)
        self.graph.rename_node(made.producer, node_name)
        self.graph.rename(made, value_name)
        return ""

    def _shortened(self, operands: list[Value]) -> list[Value]:
        """The operands, with runs that are known as a whole replaced by that."""
        short: list[Value] = []
        while operands:
            length, whole = self._longest_run(operands)
            short.append(whole)
            operands = operands[length:]
        return short

    def _longest_run(self, operands: Sequence[Value]) -> tuple[int, Value]:
        """How many operands from the first on are one value, and that value."""
        for length in range(len(operands), 1, -1):
            run = tuple(operands[:length])
            whole = self.known.get(run) or _put_together(run)
            if whole is not None:
                return length, whole
        return 1, operands[0]

    def _placed(self, operands: Sequence[Value]) -> list[bool]:
        """Which operands can be written where the concatenation wants them."""
        taken = set(self.joined)
        found = []
        for value in operands:
            base = _base(value)
            producer = base.producer
            free = producer is not None and not producer.is_op(PART, domain=KERNEL) and base not in taken
            found.append(free and not _leaves(base))
            taken.add(base)
        return found

    def _copy_into(self, join: Node, numbers: Sequence[int]) -> None:
        """Let these operands be copies."""
        build = Builder(self.graph, join, join.origin)
        for number in numbers:
            value = join.inputs[number]
            assert value is not None
            self._copied(build, value, partial(join.set_input, number))

    def _copied(self, build: Builder, value: Value, give: Callable[[Value], None]) -> Value:
        """A copy, made by a kernel of its own; `give` gives it to its readers."""
        assert value.type is not None
        (copy,) = build.ops("Identity", value, outputs=1, types=(value.type,), name=f"{value.name}.copy")
        assert copy.producer is not None
        give(copy)
        return fuse_nodes(self.graph, [copy.producer]).output


def _base(value: Value) -> Value:
    """The value whose bytes `value` has under another shape."""
    while value.producer is not None and value.producer.is_op(*ALIASES):
        (value, *_) = (v for v in value.producer.inputs if v is not None)
    return value


def _leaves(value: Value) -> bool:
    """It is an output of the graph, under this shape or another one."""
    if value.is_graph_output:
        return True
    return any(
        user.is_op(*ALIASES) and _leaves(user.output) for user in value.users if user.inputs[0] is value
    )


def _can_be_cut_short(x: Value) -> bool:
    """An element-wise producer that nobody else reads makes what is sliced alone, once they are one kernel."""
    return x.producer is not None and x.producer.is_op(*ELEMENTWISE) and len(x.users) == 1


def _put_together(run: Sequence[Value]) -> Value | None:
    """The value that was taken apart into this run and nothing else; None: there is none."""
    if not all(v.producer is not None and v.producer.is_op(PART, domain=KERNEL) for v in run):
        return None
    parts = [v.producer for v in run if v.producer is not None]
    source, place = parts[0].inputs[0], 0
    for part in parts:
        if part.inputs[0] is not source or part.int("offset") != place:
            return None
        place += part.output.size
    return source if source is not None and source.size == place else None


def _starts_of_split(node: Node, x: Value) -> list[int] | None:
    """The first element of each part; None where parts do not lie together."""
    axis = node.int("axis") % len(x.static_shape)
    if math.prod(x.static_shape[:axis]) != 1:
        return None
    sizes = [value.size for value in node.outputs]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def _start_of_slice(node: Node, x: Value) -> list[int] | None:
    """The first element, alone in a list; None where the elements do not lie together."""
    ranges = slice_starts(node)
    if ranges is None:
        return None
    shape, sizes = x.static_shape, node.output.static_shape
    cut = next((axis for axis, size in enumerate(sizes) if size > 1), len(sizes) - 1)
    if sizes[cut + 1 :] != shape[cut + 1 :]:
        return None
    return [sum(start * math.prod(shape[axis + 1 :]) for axis, start in enumerate(ranges))]
