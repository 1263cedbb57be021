"""Transposes move towards each other and cancel.

A model exported from a channels-last framework is full of them. A transpose sinks through every operator that works
element by element or can have its axes renamed, until it meets its inverse (canonicalize joins the two) or an
operator that needs the order it makes:

    Relu(Transpose(x, p))                     -->   Transpose(Relu(x), p)
    Add(Transpose(x, p), Transpose(y, p))     -->   Transpose(Add(x, y), p)
    Add(Transpose(x, p), c)                   -->   Transpose(Add(x, c'), p)       c' = c with its axes put back
    Softmax, ReduceMean, Concat, Split, Pad, Slice, QuantizeLinear ... (Transpose(x, p))   axes renamed alike

What constants and products can take in is in `absorb_transposes`.
A rule fires only where the number of transposes does not grow: an operand that is not transposed must be a
constant. So the pass ends, since a transpose only ever moves down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.onnx_io.infer import UNARY_ELEMENTWISE
from graphopt.passes import absorb_transposes
from graphopt.passes.absorb_transposes import Permutation, inverse, permutation_of, source_of
from graphopt.passes.algebra import REDUCTIONS, reduced_axes
from graphopt.passes.canonical_reshape import TransposeChain
from graphopt.passes.canonicalize import RemoveNoOp
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

BROADCASTING = tuple("Add Sub Mul Div Max Min Pow PRelu And Or Xor Equal Less Greater Where Mean Sum".split())
WITH_AXIS = ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "Concat", "Split")
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def _only_reader(match: Match, value: Value) -> bool:
    return not value.is_graph_output and all(user is match.root for user in value.users)


class SinkThroughUnary(Rule):
    """Relu(Transpose(x, p)) --> Transpose(Relu(x), p); further operands are single numbers."""

    name = "sink-transpose-unary"
    pattern = Op(
        sorted(UNARY_ELEMENTWISE - {"Dropout"}), Op("Transpose", Any("x"), bind="transpose"), more=True
    )

    def check(self, match: Match) -> str | None:
        if any(v is not None and v.scalar() is None for v in match.root.inputs[1:]):
            return "another operand is not a single number"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node = match.root
        y = build.op(node.op_type, match["x"], *node.inputs[1:], **node.attributes)
        return build.op("Transpose", y, perm=permutation_of(node.inputs[0]))


class SinkThroughBroadcast(Rule):
    """Add(Transpose(x, p), Transpose(y, p) or constant) --> Transpose(Add(x, y'), p)."""

    name = "sink-transpose-broadcast"
    pattern = Op(BROADCASTING, Any(), more=True)

    def check(self, match: Match) -> str | None:
        operands = [v for v in match.root.inputs if v is not None]
        found = {permutation_of(v) for v in operands if not v.is_constant}
        if len(found) != 1 or None in found:
            return "the operands are not all transposed alike"
        (order,) = found
        assert order is not None
        if match.root.output.rank != len(order):
            return "the operands have different ranks"
        for value in operands:
            if not value.is_constant and not _only_reader(match, value):
                return f"'{value.name}' is needed elsewhere too"
        if match.root.op_type == "PRelu" and len(operands) > 1 and not operands[1].is_constant:
            return "the slopes are not constant"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node = match.root
        order = next(p for p in map(permutation_of, node.inputs) if p is not None)
        operands = [self._moved(v, order, build) for v in node.inputs]
        y = build.op(node.op_type, *operands, **node.attributes)
        return build.op("Transpose", y, perm=order)

    @staticmethod
    def _moved(value: Value | None, order: Permutation, build: Builder) -> Value | None:
        if value is None:
            return None
        if value.constant is None:
            return source_of(value)
        if value.constant.size == 1:
            return value
        data = value.constant.reshape((1,) * (len(order) - value.constant.ndim) + value.constant.shape)
        return build.const(np.ascontiguousarray(data.transpose(inverse(order))), name=value.name)


class SinkThroughAxis(Rule):
    """Softmax(Transpose(x, p), axis) --> Transpose(Softmax(x, p[axis]), p); Concat and Split alike."""

    name = "sink-transpose-axis"
    pattern = Op(WITH_AXIS, Any(), more=True)

    def check(self, match: Match) -> str | None:
        node = match.root
        tensors = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        found = {permutation_of(v) for v in tensors}
        if len(found) != 1 or None in found:
            return "the operands are not all transposed alike"
        if any(v is None or not _only_reader(match, v) for v in tensors):
            return "an operand is needed elsewhere too"
        if node.op_type in ("ArgMax", "ArgMin") and not node.int("keepdims", 1):
            return "it drops its axis"
        if node.op_type == "Split" and sum(bool(v.uses or v.is_graph_output) for v in node.outputs) > 1:
            return "each part would need a transpose of its own"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        order = permutation_of(node.inputs[0])
        assert order is not None
        default = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1}.get(node.op_type, 0)
        axis = order[node.int("axis", default) % len(order)]
        tensors = len(node.inputs) if node.op_type == "Concat" else 1
        operands = [source_of(v) if v else None for v in node.inputs[:tensors]]
        attributes = {**node.attributes, "axis": axis}
        made = build.ops(
            node.op_type, *operands, *node.inputs[tensors:], outputs=len(node.outputs), **attributes
        )
        return [
            build.op("Transpose", y, perm=order) if old.uses or old.is_graph_output else None
            for y, old in zip(made, node.outputs, strict=True)
        ]


class SinkThroughReduction(Rule):
    """ReduceMean(Transpose(x, p), axes) --> Transpose(ReduceMean(x, p[axes]), p), or without p when axes go."""

    name = "sink-transpose-reduction"
    pattern = Op(REDUCTIONS, Op("Transpose", Any("x")), Const("axes", optional=True))

    def check(self, match: Match) -> str | None:
        return None if reduced_axes(match.root) is not None else "the axes are not known"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node = match.root
        order, axes = permutation_of(node.inputs[0]), reduced_axes(node)
        assert order is not None and axes is not None
        inner = sorted(order[a] for a in axes)
        y = build.op(node.op_type, match["x"], build.shape(inner, "axes"), **node.attributes)
        if node.int("keepdims", 1):
            return build.op("Transpose", y, perm=order)
        kept = [axis for axis in order if axis not in inner]
        rank = [sorted(kept).index(axis) for axis in kept]
        return build.op("Transpose", y, perm=tuple(rank)) if rank != sorted(rank) else y


class SinkThroughQuantiser(Rule):
    """QuantizeLinear(Transpose(x, p), s, z, axis) --> Transpose(QuantizeLinear(x, s, z, p[axis]), p)."""

    name = "sink-transpose-quantiser"
    pattern = Op(QUANTISERS, Op("Transpose", Any("x")), Any("scale"), Any(optional=True))

    def check(self, match: Match) -> str | None:
        if match["x"].is_constant:
            return "fold-constants turns the weights"
        return "it works in blocks" if match.root.int("block_size") else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node = match.root
        order = permutation_of(node.inputs[0])
        assert order is not None
        attributes = {**node.attributes}
        if match["scale"].rank:
            attributes["axis"] = order[node.int("axis", 1) % len(order)]
        y = build.op(node.op_type, match["x"], *node.inputs[1:], **attributes)
        return build.op("Transpose", y, perm=order)


class SinkThroughPad(Rule):
    """Pad(Transpose(x, p), pads) --> Transpose(Pad(x, pads in x's order), p)."""

    name = "sink-transpose-pad"
    pattern = Op("Pad", Op("Transpose", Any("x")), Const("pads"), Any("value", optional=True))

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, pads = match.root, match.data("pads")
        order = permutation_of(node.inputs[0])
        assert order is not None
        back = list(inverse(order))
        moved = [*pads[: len(order)][back], *pads[len(order) :][back]]
        y = build.op("Pad", match["x"], build.shape(moved, "pads"), match.get("value"), **node.attributes)
        return build.op("Transpose", y, perm=order)


class SinkThroughSlice(Rule):
    """Slice(Transpose(x, p), axes) --> Transpose(Slice(x, p[axes]), p)."""

    name = "sink-transpose-slice"
    pattern = Op(
        "Slice",
        Op("Transpose", Any("x")),
        Any("starts"),
        Any("ends"),
        Const("axes"),
        Any("steps", optional=True),
    )

    def rewrite(self, match: Match, build: Builder) -> Value:
        order = permutation_of(match.root.inputs[0])
        assert order is not None
        axes = [order[int(a) % len(order)] for a in match.data("axes")]
        y = build.op(
            "Slice", match["x"], match["starts"], match["ends"], build.shape(axes, "axes"), match.get("steps")
        )
        return build.op("Transpose", y, perm=order)


RULES = (
    RemoveNoOp(),
    TransposeChain(),
    SinkThroughUnary(),
    SinkThroughBroadcast(),
    SinkThroughAxis(),
    SinkThroughReduction(),
    SinkThroughQuantiser(),
    SinkThroughPad(),
    SinkThroughSlice(),
    *absorb_transposes.RULES,
)


@dataclass(frozen=True)
class SinkTransposes(RulePass):
    """Move transposes down until they cancel."""

    name: ClassVar[str] = "sink-transposes"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
