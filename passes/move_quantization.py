"""What moves, chooses or compares numbers works on the bytes of a quantised tensor; rules of `lower_integer`.

Reshape(DQ(x, s, z))   -->  DQ(Reshape(x), s, z)     Transpose, MaxPool, Slice, ... alike
Relu(DQ(x, s, z))      -->  DQ(Max(x, z), s, z)
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import Value
from graphopt.passes.integers import dequantized
from graphopt.rewrite import Any, Builder, Match, Op, Rule

MOVEMENT = (
    "DepthToSpace Expand Flatten Gather MaxPool Reshape Slice SpaceToDepth Squeeze Tile Transpose Unsqueeze"
).split()
"""Each element of the result is one of the first operand; what the others tell is where."""

BYTE_POOLS = ("int8", "uint8")


class DequantizeBehind(Rule):
    """Reshape(DQ(x, s, z)) --> DQ(Reshape(x), s, z)."""

    name = "dequantize-behind"
    pattern = Op(MOVEMENT, Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        node, source = match.root, dequantized(match["x"])
        if source is None:
            return f"'{match['x'].name}' is not dequantised with one scale"
        if len(node.outputs) > 1 and node.outputs[1].uses:
            return "it tells places too"
        if node.op_type.endswith("MaxPool") and source.x.dtype.label not in BYTE_POOLS:
            return "pools have no arithmetic on 16 bits"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        node, source = match.root, match["x"].producer
        assert source is not None
        moved = build.op(node.op_type, source.input(0), *node.inputs[1:], **node.attributes)
        return build.op("DequantizeLinear", moved, *source.inputs[1:])


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


MOVING: tuple[Rule, ...] = (DequantizeBehind(), ReluOfBytes())
