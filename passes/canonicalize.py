"""Canonical forms: nodes that do nothing disappear, nodes that say the same say it one way.

    Identity(x), Dropout(x), Cast to the same type, Pad by nothing, a whole Slice ...  -->  x
    Transpose(Transpose(x, p), q)                                              -->  Transpose(x, p[q])
    Flatten, Squeeze, Unsqueeze of a static shape                              -->  Reshape(x, shape)
    Reshape(Reshape(x, s), t)                                                  -->  Reshape(x, t)
    Relu(Relu(x)), Relu(Clip(x, a >= 0, b)), Clip(Clip(x))                     -->  one of them
    Sum(x, y), Max(x), Concat(x), Sum(x)                                       -->  Add(x, y), x, x, x
    Pow(x, 2), Pow(x, 0.5), Pow(x, 1)                                          -->  Mul(x, x), Sqrt(x), x
    Mul(x, 1), Div(x, 1), Add(x, 0), Sub(x, 0)                                 -->  x
    auto_pad=SAME_UPPER                                                        -->  pads

Adding a positive zero changes -0 to +0; ONNX gives no meaning to the sign of zero, so Add(x, 0) goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import TensorType, Value
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule, Scalar
from graphopt.runtime.reference_conv import explicit_pads

VARIADIC = ("Sum", "Max", "Min", "Mean", "Concat")


def _same_type(match: Match, value: Value) -> str | None:
    """Why `value` may not stand for the root's output."""
    old: TensorType | None = match.root.output.type
    if old is None or value.type is None:
        return "a type is unknown"
    if old.dtype is not value.type.dtype or old.shape != value.type.shape:
        return f"the result is {old}, '{value.name}' is {value.type}"
    return None


class RemoveIdentity(Rule):
    """Identity(x) --> x; Dropout(x) --> x outside training."""

    name = "remove-identity"
    pattern = Op(("Identity", "Dropout"), Any("x"), Any(optional=True), Any("training", optional=True))

    def check(self, match: Match) -> str | None:
        training = match.get("training")
        if training is not None and training.scalar() is not False:
            return "Dropout may be training"
        if len(match.root.outputs) > 1 and (
            match.root.outputs[1].uses or match.root.outputs[1].is_graph_output
        ):
            return "the mask is used"
        graph = match.root.graph
        if graph is not None and match["x"].graph is not graph and match.root.output.is_graph_output:
            return "it hands an outer value out of a nested graph"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        return (match["x"], *(None for _ in match.root.outputs[1:]))


class RemoveNoOp(Rule):
    """A node that returns its operand: Cast, Transpose, Reshape, Pad, Slice, Expand, Tile, Resize ..."""

    name = "remove-no-op"
    pattern = Op(
        "Cast Transpose Reshape Pad Slice Expand Tile Squeeze Unsqueeze Flatten".split(), Any("x"), more=True
    )

    def check(self, match: Match) -> str | None:
        node, x = match.root, match["x"]
        reason = _same_type(match, x)
        if reason:
            return reason
        if node.op_type == "Transpose":
            order = node.ints("perm")
            moved = [] if order is None else [a for a in order if x.shape is None or x.shape[a] != 1]
            return None if order is not None and moved == sorted(moved) else "it moves elements"
        if node.op_type == "Slice":
            steps = node.input(4)
            if steps is not None and (steps.constant is None or (steps.constant != 1).any()):
                return "it may reverse"
            return None if x.is_static else "the shape is not static"
        if node.op_type == "Pad":
            pads = node.input(1)
            if pads is None or pads.constant is None or pads.constant.any():
                return "it moves elements"
        if node.op_type in ("Expand", "Tile", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return None if x.is_static or x.rank == 0 else "the shape is not static"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class ReshapeForms(Rule):
    """Flatten, Squeeze, Unsqueeze and transposes of unit axes --> Reshape, where the shape is known.

    One unknown dimension of the result becomes -1.
    """

    name = "reshape-forms"
    pattern = Op("Flatten Squeeze Unsqueeze Transpose".split(), Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        if match.root.op_type == "Transpose" and not self._moves_units_only(match):
            return "it moves elements"
        shape = match.root.output.shape
        if shape is None or sum(isinstance(d, str) for d in shape) > 1 or 0 in shape:
            return "more than one dimension of the result is unknown"
        return None

    @staticmethod
    def _moves_units_only(match: Match) -> bool:
        order, shape = match.root.ints("perm"), match["x"].shape
        if order is None or shape is None:
            return False
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)

    def rewrite(self, match: Match, build: Builder) -> Value:
        shape = match.root.output.shape
        assert shape is not None
        return build.op("Reshape", match["x"], build.shape([d if isinstance(d, int) else -1 for d in shape]))


class ReshapeChain(Rule):
    """Reshape(Reshape(x, s), t) --> Reshape(x, t): the first one's shape does not matter."""

    name = "reshape-chain"
    pattern = Op("Reshape", Op("Reshape", Any("x"), Any(), shared=True), Const("target"))

    def check(self, match: Match) -> str | None:
        if (match.data("target") == 0).any():
            return "a dimension of the target is copied from the inner shape"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Reshape", match["x"], match["target"])


class TransposeChain(Rule):
    """Transpose(Transpose(x, p), q) --> Transpose(x, p[q])."""

    name = "transpose-chain"
    pattern = Op("Transpose", Op("Transpose", Any("x"), bind="inner", shared=True), bind="outer")

    def check(self, match: Match) -> str | None:
        return None if match["x"].rank is not None else "the rank is unknown"

    def rewrite(self, match: Match, build: Builder) -> Value:
        rank = match["x"].rank or 0
        reverse = tuple(reversed(range(rank)))
        inner = match.node("inner").ints("perm", reverse)
        outer = match.node("outer").ints("perm", reverse)
        assert inner is not None and outer is not None
        return build.op("Transpose", match["x"], perm=tuple(inner[axis] for axis in outer))


class CastChain(Rule):
    """Cast(Cast(x, wide), narrow) --> Cast(x, narrow) when the first one loses nothing."""

    name = "cast-chain"
    pattern = Op("Cast", Op("Cast", Any("x"), bind="inner", shared=True), bind="outer")

    def check(self, match: Match) -> str | None:
        source, middle = match["x"].dtype, match.node("inner").output.dtype
        lossless = {
            ("float16", "float32"),
            ("bfloat16", "float32"),
            ("float32", "float64"),
            ("float16", "float64"),
            ("int8", "int32"),
            ("uint8", "int32"),
            ("int32", "int64"),
            ("int8", "int64"),
            ("uint8", "int64"),
            ("bool", "int32"),
            ("bool", "int64"),
            ("bool", "float32"),
        }
        if source is not middle and (source.label, middle.label) not in lossless:
            return f"{middle} does not hold every {source}"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Cast", match["x"], **match.node("outer").attributes)


class ReluOfReluLike(Rule):
    """Relu(f(x)) --> f(x) for f that is never negative."""

    name = "relu-of-relu"
    pattern = Op(
        "Relu",
        Op(
            ("Relu", "Sigmoid", "Clip"),
            Any("x"),
            Const("low", optional=True),
            Any(optional=True),
            bind="inner",
            shared=True,
        ),
    )

    def check(self, match: Match) -> str | None:
        if match.node("inner").op_type == "Clip":
            low = match.get("low")
            if low is None or low.scalar() is None or low.scalar() < 0:  # type: ignore[operator]
                return "Clip may return a negative number"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match.node("inner").output


class ClipOfClip(Rule):
    """Clip(Clip(x, a, b), c, d) --> Clip(x, max(a, c), min(b, d)); a Relu inside is Clip(x, 0)."""

    name = "clip-of-clip"
    pattern = Op(
        "Clip",
        Op(("Clip", "Relu"), Any("x"), Const("a", optional=True), Const("b", optional=True), bind="inner"),
        Const("c", optional=True),
        Const("d", optional=True),
    )

    def check(self, match: Match) -> str | None:
        low, high = self._bounds(match)
        if low is not None and high is not None and low > high:
            return "the ranges do not meet"
        return None

    @staticmethod
    def _bounds(match: Match) -> tuple[float | None, float | None]:
        lows = [match.data(n).item() for n in "ac" if match.get(n) is not None]
        highs = [match.data(n).item() for n in "bd" if match.get(n) is not None]
        if match.node("inner").op_type == "Relu":
            lows.append(0.0)
        return max(lows, default=None), min(highs, default=None)

    def rewrite(self, match: Match, build: Builder) -> Value:
        x = match["x"]
        bounds = [None if b is None else build.const(np.asarray(b), like=x) for b in self._bounds(match)]
        return build.op("Clip", x, *bounds)


class SingleOperand(Rule):
    """Sum(x), Max(x), Concat(x) --> x."""

    name = "single-operand"
    pattern = Op(VARIADIC, Any("x"))

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class SumToAdd(Rule):
    """Sum(x, y) --> Add(x, y); three operands and more fold from the left."""

    name = "sum-to-add"
    pattern = Op("Sum", Any("x"), Any("y"), more=True)

    def rewrite(self, match: Match, build: Builder) -> Value:
        first, *others = [v for v in match.root.inputs if v is not None]
        for other in others:
            first = build.op("Add", first, other)
        return first


class PowByTwo(Rule):
    """Pow(x, 2) --> Mul(x, x)."""

    name = "pow-2"
    pattern = Op("Pow", Any("x"), Scalar(2, "p"))

    def check(self, match: Match) -> str | None:
        return None if match["p"].rank in (0, 1) else "the exponent changes the rank"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Mul", match["x"], match["x"])


class PowByHalf(Rule):
    """Pow(x, 0.5) --> Sqrt(x)."""

    name = "pow-half"
    pattern = Op("Pow", Any("x"), Scalar(0.5, "p"))

    def check(self, match: Match) -> str | None:
        if match["x"].rank in (None, 0) and match["p"].rank:
            return "the exponent changes the rank"
        return None if match["x"].dtype.is_float else "the base is not a float"

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Sqrt", match["x"])


class Neutral(Rule):
    """x * 1, x / 1, x + 0, x - 0, x ** 1 --> x."""

    name = "neutral-operand"
    pattern = Op(("Mul", "Div", "Add", "Sub", "Pow"), Any("x"), Const("c"))

    def check(self, match: Match) -> str | None:
        neutral = 0 if match.root.op_type in ("Add", "Sub") else 1
        data = match.data("c")
        if data.size == 0 or not (data == neutral).all():
            return f"'{match['c'].name}' is not {neutral} throughout"
        return _same_type(match, match["x"])

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class ExplicitPads(Rule):
    """auto_pad=SAME_UPPER --> pads=..., where the input's size is known."""

    name = "explicit-pads"
    pattern = Op("Conv MaxPool AveragePool LpPool".split(), Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        if match.root.str("auto_pad", "NOTSET") == "NOTSET":
            return "its pads are explicit"
        shape = match["x"].shape
        if shape is None or any(isinstance(d, str) for d in shape[2:]):
            return "the input's size is not known"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        spatial = [int(d) for d in (match["x"].shape or ())[2:]]
        kernel = self._kernel(match)
        rank = len(spatial)
        dilations = node.ints("dilations", (1,) * rank) or ()
        strides = node.ints("strides", (1,) * rank) or ()
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        attributes = {k: v for k, v in node.attributes.items() if k != "auto_pad"}
        attributes["pads"] = explicit_pads(node, spatial, span, strides)
        return build.ops(node.op_type, *node.inputs, outputs=len(node.outputs), **attributes)

    @staticmethod
    def _kernel(match: Match) -> tuple[int, ...]:
        given = match.root.ints("kernel_shape")
        if given is not None:
            return given
        weights = match.root.input(1)
        assert weights is not None
        return weights.static_shape[2:]


RULES = (
    RemoveIdentity(),
    RemoveNoOp(),
    ReshapeForms(),
    ReshapeChain(),
    TransposeChain(),
    CastChain(),
    ReluOfReluLike(),
    ClipOfClip(),
    SingleOperand(),
    SumToAdd(),
    PowByTwo(),
    PowByHalf(),
    Neutral(),
    ExplicitPads(),
)


@dataclass(frozen=True)
class Canonicalize(RulePass):
    """Remove nodes that do nothing and bring the others into one form."""

    name: ClassVar[str] = "canonicalize"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
