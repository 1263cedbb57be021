"""HardSwish of sums of integers in fixed point; a rule of `requantize_fixed`.

    Q(HardSwish(Mul(Cast(sums), c)), s, z)  -->  quant::Requantize(Mul(w, g), 2^-(k + 15)) {zero_point: z}

    w = quant::Requantize(sums, 2^k c / s) {low: -2^15, high: 2^15}             the operand in steps of the result
    g = quant::Requantize(sums, 2^15 c / 6) {zero_point: 2^14, low: 0, high: 2^15}      what it is multiplied with

w is exact as far as it is 512 steps from zero, beyond which a positive operand is cut off with it, since g is half or
more there; and down to -3, below which g is zero. Within that range of R steps, k is what it leaves of 15 bits. Each of
w and g is off by one at most, which is worth 3 R / 2^15 steps of the result; R <= 2^12 makes that three eighths.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir import DType, TensorType, Value
from graphopt.passes.fixed_sources import NoTerms, Term
from graphopt.passes.fixed_sums import check_term, requantize
from graphopt.passes.fixed_terms import terms_of
from graphopt.passes.integers import BYTES, limits
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule
from graphopt.runtime.fixed_point import LARGEST_SCALE

BITS = 15
CUT_OFF = 512
"""Steps; half of them are more than a byte has."""
MOST_STEPS = 1 << 12
ENDS = 3.0
"""HardSwish is zero below minus that."""


class FixedHardSwish(Rule):
    """Q(HardSwish(Mul(Cast(sums), c)), s, z) --> quant::Requantize(Mul(w, g), 2^-(k + 15))."""

    name = "hard-swish-fixed"
    pattern = Op("QuantizeLinear", Op("HardSwish", Any("x")), Const("s"), Const("z", optional=True))

    def check(self, match: Match) -> str | None:
        scale = match["s"].scalar()
        zero = 0 if match.get("z") is None else match["z"].scalar()
        if match.root.output.dtype not in BYTES or scale is None or zero is None or not scale > 0:
            return "its results are no bytes with one scale"
        if _steps(scale) > MOST_STEPS:
            return f"a scale of {scale:g} is too small for its range"
        try:
            term = _sums(match["x"])
        except NoTerms as reason:
            return str(reason)
        largest = float(term.coefficient.max()) * max(2.0 ** _fraction(scale) / scale, 2.0**BITS / 6)
        return None if largest < LARGEST_SCALE else f"a scale of {largest:g} is beyond {LARGEST_SCALE:g}"

    def rewrite(self, match: Match, build: Builder) -> Value:
        term, scale, type = _sums(match["x"]), match["s"].scalar(), match.root.output.type
        assert scale is not None and type is not None
        fraction, whole = _fraction(scale), 1 << BITS
        sums, wide = term.make(build), TensorType(DType.int32, type.shape)
        steps = np.ldexp(term.coefficient / scale, fraction)
        gates = np.ldexp(term.coefficient / 6, BITS)
        w = requantize(build, sums, term.reach, steps, wide, low=-whole, high=whole)
        g = requantize(build, sums, term.reach, gates, wide, zero_point=whole // 2, low=0, high=whole)
        zero = 0 if match.get("z") is None else int(match["z"].scalar() or 0)
        low, high = (int(bound) for bound in limits(type.dtype) or (0, 0))
        product, largest = build.op("Mul", w, g), np.array(float(whole * whole))
        shares = np.array(2.0 ** -(fraction + BITS))
        return requantize(build, product, largest, shares, type, zero_point=zero, low=low, high=high)


def _sums(x: Value) -> Term:
    """The one sum of integers, without anything added, that `x` is. Raises NoTerms."""
    found = terms_of(x)
    term, *others = found.terms
    if others or term.is_bytes or found.is_cut or found.constant.any() or term.shape != x.static_shape:
        raise NoTerms("HardSwish is not of one sum of integers")
    check_term(term)
    if not (term.coefficient > 0).all():
        raise NoTerms("a scale of sums is not positive")
    return term


def _steps(scale: float) -> float:
    return max(float(CUT_OFF), math.ceil(ENDS / scale))


def _fraction(scale: float) -> int:
    """Bits behind the point of what is up to `_steps`."""
    return BITS - math.ceil(math.log2(_steps(scale)))
