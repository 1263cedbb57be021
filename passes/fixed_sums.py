"""Sums of terms in int32, with as many bits behind the point as fit; for `requantize_fixed`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir import QUANT, DType, TensorType, Value
from graphopt.passes.fixed_sources import NoTerms, Term
from graphopt.passes.fixed_terms import Terms
from graphopt.passes.integers import LARGEST_SUM
from graphopt.rewrite import Builder
from graphopt.runtime.fixed_point import LARGEST_SCALE, encoded

MOST_FRACTION = 24
"""Bits behind the point."""

WORTH = 0.25
"""Of a step of the result: what rounding the terms of a sum may be worth."""


def requantize(
    build: Builder, x: Value, reach: np.ndarray, scale: np.ndarray, type: TensorType, **attributes: Any
) -> Value:
    """x in int32, up to `reach`, times `scale` as `type`."""
    name = f"{build.before.name}.multiplier" if build.before is not None else "multiplier"
    multiplier, shift = encoded(scale)
    operands = [x, build.const(multiplier, name=name)]
    if shift.any():
        operands.append(build.const(shift, name=name.replace("multiplier", "shift")))
        attributes |= {"fits": 1} if _fit(reach, shift) else {}
    return build.ops("Requantize", *operands, outputs=1, domain=QUANT, types=(type,), **attributes)[0]


def check_term(term: Term) -> None:
    largest = float(np.abs(term.coefficient).max(initial=0.0))
    if not largest < LARGEST_SCALE:
        raise NoTerms(f"a scale of {largest:g} is beyond {LARGEST_SCALE:g}")
    if np.broadcast_shapes(term.shape, term.coefficient.shape) != term.shape:
        raise NoTerms("a scale has more elements than what it scales")
    if not term.is_bytes and not _one_sign(term.coefficient):
        raise NoTerms("a scale of sums is zero, or differs in sign by channel")


def _one_sign(coefficient: np.ndarray) -> bool:
    return bool((coefficient > 0).all() or (coefficient < 0).all())


def fraction_of(terms: Terms) -> int:
    """The most bits behind the point with which a sum of terms fits 32 bits."""
    whole = np.abs(terms.constant) + sum(t.reach * np.abs(t.coefficient) for t in terms.terms)
    rounding = 0.5 + sum(float(np.max(t.reach)) / 2 if t.is_bytes else 1.0 for t in terms.terms)
    for bits in range(MOST_FRACTION, 1, -1):
        fits = float(np.max(whole)) * 2.0**bits + rounding < LARGEST_SUM
        if fits and all(t.is_bytes or _fits_shifted(t, bits) for t in terms.terms):
            if rounding * 2.0**-bits > WORTH:
                break
            return bits
    raise NoTerms(f"{np.max(whole):.0f} steps of its result leave too few of 32 bits for fractions")


def _fits_shifted(term: Term, bits: int) -> bool:
    scale = np.abs(term.coefficient) * 2.0**bits
    if not (scale < LARGEST_SCALE).all():
        return False
    return _fit(term.reach, encoded(scale)[1])


def _fit(reach: np.ndarray, shift: np.ndarray) -> bool:
    """Whether numbers up to `reach` fit int32 when they are shifted."""
    return bool((np.ldexp(reach, shift) < LARGEST_SUM).all())


def sum_of(build: Builder, terms: Terms, bits: int, shape: tuple[int, ...]) -> Value:
    """Terms and constants, times 2^bits, in int32; all of them broadcast to `shape`."""
    total: Value | None = None
    offset = np.rint(np.ldexp(terms.constant, bits))
    for term in terms.terms:
        scale = np.ldexp(term.coefficient, bits)
        x, negative = term.make(build), False
        if term.is_bytes:
            factor = np.rint(scale)
            offset = offset - term.zero_point * factor
            wide = build.op("Cast", x, to=DType.int32.onnx_code)
            part = build.op("Mul", wide, build.const(factor.astype(np.int32), name="factor"))
        else:
            negative = bool((scale < 0).all())
            part = requantize(build, x, term.reach, np.abs(scale), TensorType(DType.int32, term.shape))
        if total is None:
            total = build.op("Neg", part) if negative else part
        else:
            total = build.op("Sub" if negative else "Add", total, part)
    assert total is not None
    if not offset.any():
        return total
    if not np.ptp(offset) and np.broadcast_shapes(*(term.shape for term in terms.terms)) == shape:
        offset = offset.reshape(-1)[0]
    return build.op("Add", total, build.const(offset.astype(np.int32), name="offset"))
