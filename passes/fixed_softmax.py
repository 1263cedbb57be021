"""Softmax of bytes in integers; a rule of `requantize_fixed`.

    Q(Softmax(DQ(x, r), axis), s, z)  -->  quant::Softmax(x, table) {axis, steps: 1/s, zero_point: z}

`table[d]` is exp(-r d) in units of 2^-k for each distance d of 0 to 255 from the largest number on the axis. With

    e_i = table[max(x) - x_i],    y_i = saturate((steps e_i + S / 2) / S + zero_point),    S = sum of all e_i

in int32, divisions rounding down, y is the quotient rounded to nearest, ties up. k is the largest with which dividends
and S fit 31 bits: (steps + n / 2) 2^k and n 2^k are below 2^31 for n numbers on the axis. Each e_i is off by 1/2, which
moves the quotient by steps (n + 1) / 2^(k + 1) at most; that must be below 1/8, as must be 255 times what `steps` is
off 1/s by. So a result is at most one step from the float Softmax, rounded.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import QUANT, Value
from graphopt.passes.integers import BYTES, dequantized
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

DISTANCES = 256
LARGEST = (1 << 31) - 1
WORTH = 0.125
"""Of a step: what an inexact table, and an inexact number of steps, may each be worth."""


class FixedSoftmax(Rule):
    """Q(Softmax(DQ(x, r)), s, z) --> quant::Softmax(x, table)."""

    name = "softmax-fixed"
    pattern = Op(
        "QuantizeLinear", Op("Softmax", Any("x"), bind="softmax"), Const("s"), Const("z", optional=True)
    )

    def check(self, match: Match) -> str | None:
        source, scale = dequantized(match["x"]), match["s"].scalar()
        zero = 0 if match.get("z") is None else match["z"].scalar()
        if source is None or source.x.dtype not in BYTES or not match["x"].is_static:
            return f"'{match['x'].name}' are not dequantised bytes with one scale"
        if scale is None or zero is None or not scale > 0 or match.root.output.dtype not in BYTES:
            return "its results are no bytes with one scale"
        steps = round(1 / scale)
        if steps < 1 or (DISTANCES - 1) * abs(steps * scale - 1) > WORTH:
            return f"the scale {scale:g} is not one over a whole number"
        count = _count(match)
        if steps * (count + 1) / 2 ** (_fraction(steps, count) + 1) > WORTH:
            return f"{count} numbers on its axis leave too few of 32 bits for fractions"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        source, scale = dequantized(match["x"]), match["s"].scalar()
        type = match.root.output.type
        assert source is not None and scale is not None and type is not None
        steps = round(1 / scale)
        exact = np.exp(-float(source.scale[0]) * np.arange(DISTANCES))
        table = np.rint(np.ldexp(exact, _fraction(steps, _count(match)))).astype(np.int32)
        axis = match.node("softmax").int("axis", -1) % len(type.static_shape)
        zero = 0 if match.get("z") is None else int(match["z"].scalar() or 0)
        operands = (source.x, build.const(table, name=f"{match.root.name}.table"))
        (made,) = build.ops(
            "Softmax",
            *operands,
            outputs=1,
            domain=QUANT,
            types=(type,),
            axis=axis,
            steps=steps,
            zero_point=zero,
        )
        return made


def _count(match: Match) -> int:
    """How many numbers are on the axis."""
    return match["x"].static_shape[match.node("softmax").int("axis", -1)]


def _fraction(steps: int, count: int) -> int:
    """The most bits of a table's numbers with which neither a dividend nor a sum is too large."""
    return (2 * LARGEST // max(2 * steps + count, 2 * count)).bit_length() - 1
