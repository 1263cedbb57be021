"""What moves, chooses or compares numbers works on the bytes of a quantised tensor; rules of `lower_integer`.

Reshape(DQ(x, s, z))                    -->  DQ(Reshape(x), s, z)         Transpose, MaxPool, Slice, Split, ... alike
Concat(DQ(x, s, z), DQ(y, s, z))        -->  DQ(Concat(x, y), s, z)
Relu(DQ(x, s, z))                       -->  DQ(Max(x, z), s, z)
Q(Reshape(x), s, z)                     -->  Reshape(Q(x, s, z))
Q(Concat(x, y), s, z)                   -->  Concat(Q(x, s, z), Q(y, s, z))
Q(DQ(x, s, z), s, z)                    -->  x
Q(c, s, z) of a constant                -->  its bytes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.integers import BYTES, Dequantized, dequantized
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule
from graphopt.runtime.reference import evaluate_node

MOVEMENT = (
    "DepthToSpace Expand Flatten Gather MaxPool Pad Reshape Resize Slice SpaceToDepth Squeeze Tile Transpose Unsqueeze"
).split()
"""Each element of the result is one of the first operand, or zero; what the others tell is where."""


def computes(node: Node, dtype: DType) -> str | None:
    """Why an operator of MOVEMENT does more than move numbers, or has none of `dtype`."""
    if node.op_type == "MaxPool" and any(v.uses or v.is_graph_output for v in node.outputs[1:]):
        return "it tells places too"
    if node.op_type == "MaxPool" and dtype not in BYTES:
        return "there are no pools of 16 bits"
    if node.op_type == "Resize" and not _takes_nearest(node):
        return "it computes between elements"
    value = node.input(2) if node.op_type == "Pad" else None
    if value is not None and node.str("mode", "constant") == "constant" and value.scalar() != 0:
        return "it fills up with another number than zero"
    return None


def _takes_nearest(node: Node) -> bool:
    crops = node.str("coordinate_transformation_mode") == "tf_crop_and_resize"
    return node.str("mode", "nearest") == "nearest" and not crops


def moved(node: Node, x: Value, zero_point: int, build: Builder) -> tuple[Value, ...]:
    """What `node` makes of the bytes `x`, in which zero is `zero_point`."""
    others = list(node.inputs[1:])
    if node.op_type == "Pad" and node.str("mode", "constant") == "constant":
        zero = build.const(np.asarray(zero_point, x.dtype.numpy), name="zero_point")
        others = [others[0], zero, *others[2:]]
    return build.ops(node.op_type, x, *others, outputs=len(node.outputs), **node.attributes)


class DequantizeBehind(Rule):
    """Reshape(DQ(x, s, z)) --> DQ(Reshape(x), s, z)."""

    name = "dequantize-behind"
    pattern = Op([*MOVEMENT, "Split"], Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        source = dequantized(match["x"])
        if source is None:
            return f"'{match['x'].name}' is not dequantised with one scale"
        return computes(match.root, source.x.dtype)

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node, source, producer = match.root, dequantized(match["x"]), match["x"].producer
        assert source is not None and producer is not None
        parts = moved(node, source.x, source.zero_point, build)
        if node.op_type == "MaxPool":
            parts = parts[:1]
        results = [build.op("DequantizeLinear", part, *producer.inputs[1:]) for part in parts]
        return [*results, *[None] * (len(node.outputs) - len(results))]


class ConcatOfBytes(Rule):
    """Concat(DQ(x, s, z), DQ(y, s, z)) --> DQ(Concat(x, y), s, z)."""

    name = "concat-of-bytes"
    pattern = Op("Concat", Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        sources = [None if v is None else dequantized(v) for v in match.root.inputs]
        first = sources[0]
        if first is None or not all(_same(first, source) for source in sources):
            return "not all is dequantised with the same scale and zero point"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        sources = [dequantized(v) for v in match.root.inputs if v is not None]
        joined = build.op("Concat", *(s.x for s in sources if s is not None), **match.root.attributes)
        producer = match["x"].producer
        assert producer is not None
        return build.op("DequantizeLinear", joined, *producer.inputs[1:])


def _same(first: Dequantized, second: Dequantized | None) -> bool:
    return (
        second is not None
        and first.x.dtype is second.x.dtype
        and first.scale[0] == second.scale[0]
        and first.zero_point == second.zero_point
    )


class ReluOfBytes(Rule):
    """Relu(DQ(x, s, z)) --> DQ(Max(x, z), s, z)."""

    name = "relu-of-bytes"
    pattern = Op("Relu", Any("x"))

    def check(self, match: Match) -> str | None:
        source = dequantized(match["x"])
        return None if source else f"'{match['x'].name}' is not dequantised with one scale"

    def rewrite(self, match: Match, build: Builder) -> Value:
        source, node = dequantized(match["x"]), match["x"].producer
        assert source is not None and node is not None
        zero = build.const(np.asarray(source.zero_point, source.x.dtype.numpy), name="zero_point")
        return build.op("DequantizeLinear", build.op("Max", source.x, zero), *node.inputs[1:])


def _one_scale(match: Match) -> str | None:
    scale, zero = match["s"].scalar(), match.get("z")
    if scale is None or not scale > 0 or (zero is not None and zero.scalar() is None):
        return "it has a scale or a zero point for each channel"
    return None if match.root.output.dtype.is_integer else "it quantises to floats"


class QuantizeBefore(Rule):
    """Q(Reshape(x), s, z) --> Reshape(Q(x, s, z))."""

    name = "quantize-before"
    pattern = Op(
        "QuantizeLinear",
        Op(MOVEMENT, Any("x"), more=True, bind="move"),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        return _one_scale(match) or computes(match.node("move"), match.root.output.dtype)

    def rewrite(self, match: Match, build: Builder) -> Value:
        zero = match.get("z")
        q = build.op("QuantizeLinear", match["x"], match["s"], zero, **match.root.attributes)
        return moved(match.node("move"), q, 0 if zero is None else int(zero.scalar() or 0), build)[0]


class QuantizeBeforeConcat(Rule):
    """Q(Concat(x, y), s, z) --> Concat(Q(x, s, z), Q(y, s, z))."""

    name = "quantize-before-concat"
    pattern = Op(
        "QuantizeLinear",
        Op("Concat", Any("x"), more=True, bind="concat"),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        return _one_scale(match)

    def rewrite(self, match: Match, build: Builder) -> Value:
        concat, how = match.node("concat"), match.root.attributes
        parts = [build.op("QuantizeLinear", v, match["s"], match.get("z"), **how) for v in concat.inputs]
        return build.op("Concat", *parts, **concat.attributes)


class SameQuantization(Rule):
    """Q(DQ(x, s, z), s, z) --> x: rounding finds the number again."""

    name = "same-quantization"
    pattern = Op(
        "QuantizeLinear",
        Op("DequantizeLinear", Any(), Const(), Const(optional=True), bind="source", shared=True),
        Const("s"),
        Const("z", optional=True),
    )

    def check(self, match: Match) -> str | None:
        source = dequantized(match.node("source").output)
        if source is None or _one_scale(match):
            return "it has not one scale"
        zero = match.get("z")
        same = (source.scale[0], source.zero_point) == (
            np.float32(match["s"].scalar()),
            0 if zero is None else zero.scalar(),
        )
        return None if same and source.x.dtype is match.root.output.dtype else "it is quantised otherwise"

    def rewrite(self, match: Match, build: Builder) -> Value:
        source = dequantized(match.node("source").output)
        assert source is not None
        return source.x


class QuantizeConstant(Rule):
    """Q(c, s, z) --> its bytes."""

    name = "quantize-constant"
    pattern = Op("QuantizeLinear", Const("c"), Const("s"), Const("z", optional=True))

    def rewrite(self, match: Match, build: Builder) -> Value:
        operands = [None if v is None else v.constant for v in match.root.inputs]
        (data,) = evaluate_node(match.root, operands)
        return build.const(data, name=match.root.output.name)


MOVING: tuple[Rule, ...] = (
    DequantizeBehind(),
    ConcatOfBytes(),
    ReluOfBytes(),
    QuantizeBefore(),
    QuantizeBeforeConcat(),
    SameQuantization(),
    QuantizeConstant(),
)
