"""Images of one row or column lose the axis that says so.

    Reshape(Conv(x, W, b), without axis a)    -->   Conv(Reshape(x, without a), W without a, b)   W is 1 long on a
    Reshape(Transpose(x, p), without axis a)  -->   Transpose(Reshape(x, without p[a]), p without a)

Frameworks that know two-dimensional convolutions alone put an axis of length 1 around a one-dimensional one. Without
it the convolution's image joins those of its neighbours, and a transpose in front may be seen for what it is. The
reshapes themselves cost nothing, and meet others of their kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.ir.types import Dim
from graphopt.passes.absorb_transposes import permutation_of
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

PER_AXIS = ("dilations", "kernel_shape", "strides")


def _dropped(before: Sequence[Dim] | None, after: Sequence[Dim] | None) -> tuple[int, ...]:
    """The axes of length 1 that `after` lacks; none where more than that differs, or two lengths are unknown."""
    if before is None or after is None or sum(isinstance(dim, str) for dim in before) > 1:
        return ()
    found, rest = [], list(after)
    for axis, dim in enumerate(before):
        if rest and rest[0] == dim:
            rest.pop(0)
        elif dim == 1:
            found.append(axis)
        else:
            return ()
    return () if rest else tuple(found)


def _without(x: Value, axes: Sequence[int], build: Builder) -> Value:
    kept = [dim for axis, dim in enumerate(x.shape or ()) if axis not in axes]
    return build.op("Reshape", x, build.shape([-1 if isinstance(dim, str) else dim for dim in kept]))


class SqueezeConvolution(Rule):
    """Reshape(Conv(x, W, b)) --> Conv(Reshape(x), W', b) of one dimension less."""

    name = "squeeze-convolution"
    pattern = Op(
        "Reshape", Op("Conv", Any("x"), Const("w"), Any("b", optional=True), bind="conv"), Const("target")
    )

    def check(self, match: Match) -> str | None:
        conv, x, w = match.node("conv"), match["x"], match["w"]
        dropped = _dropped(conv.output.shape, match.root.output.shape)
        if len(dropped) != 1:
            return "the reshape does not drop one axis"
        (axis,) = dropped
        rank = len(w.static_shape)
        if axis < 2 or rank < 4:
            return "the axis is none of an image with two"
        if x.shape is None or x.shape[axis] != 1 or w.static_shape[axis] != 1:
            return "the image or the window is longer than 1 along the axis"
        if conv.str("auto_pad", "NOTSET") != "NOTSET":
            return "its pads are not explicit"
        if sum(isinstance(dim, str) for dim in x.shape) > 1:
            return "more than one length of the image is unknown"
        pads = conv.ints("pads", (0,) * (2 * rank - 4)) or ()
        return "it pads along the axis" if pads[axis - 2] or pads[axis - 4 + rank] else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        conv, w = match.node("conv"), match["w"]
        (axis,) = _dropped(conv.output.shape, match.root.output.shape)
        spatial, attributes = len(w.static_shape) - 2, dict(conv.attributes)
        for name in PER_AXIS:
            values = conv.ints(name)
            if values is not None:
                attributes[name] = tuple(v for a, v in enumerate(values) if a != axis - 2)
        pads = conv.ints("pads")
        if pads is not None:
            attributes["pads"] = tuple(p for a, p in enumerate(pads) if a % spatial != axis - 2)
        weights = build.const(match.data("w").squeeze(axis), name=w.name)
        x = _without(match["x"], (axis,), build)
        return build.op("Conv", x, weights, *conv.inputs[2:], **attributes)


class SqueezeTransposed(Rule):
    """Reshape(Transpose(x, p)) that drops axes of length 1 --> Transpose(Reshape(x), p')."""

    name = "squeeze-transposed"
    pattern = Op("Reshape", Op("Transpose", Any("x"), bind="transpose"), Const("target"))

    def check(self, match: Match) -> str | None:
        transposed = match.node("transpose").output
        if permutation_of(transposed) is None or not _dropped(transposed.shape, match.root.output.shape):
            return "the reshape does not drop axes of length 1 alone"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        transposed = match.node("transpose").output
        order = permutation_of(transposed)
        assert order is not None
        dropped = _dropped(transposed.shape, match.root.output.shape)
        kept = [source for axis, source in enumerate(order) if axis not in dropped]
        x = _without(match["x"], [order[axis] for axis in dropped], build)
        return build.op("Transpose", x, perm=tuple(sorted(kept).index(source) for source in kept))


RULES = (SqueezeConvolution(), SqueezeTransposed())


@dataclass(frozen=True)
class SqueezeConvolutions(RulePass):
    """Drop the axes of length 1 that stand around one-dimensional convolutions."""

    name: ClassVar[str] = "squeeze-convolution"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
