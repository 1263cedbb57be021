"""What a float tail computes of integers, as a sum of terms cut to a range; for `requantize_fixed`.

    Mul(Cast(sums), c)                         a term `sums c`
    DequantizeLinear(x, s, z)                  a term `(x - z) s`
    Add(Mul(Cast(sums), c), DQ(x, s, z))       both, and `Sub`, `Sum` alike; constants that are added are one constant
    Relu, Clip of any of these                 the range of the whole
    HardSigmoid(x)                             Clip(alpha x + beta, 0, 1)

Pools, means and products of two tensors are terms too: see `fixed_sources`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir import Node, Value
from graphopt.passes.fixed_sources import NoTerms, Term, source_of

ADDITIONS = ("Add", "Sub", "Sum")
ACTIVATIONS = ("Clip", "Relu")


@dataclass(frozen=True)
class Terms:
    """The sum of `terms` and `constant`, cut to `low` and `high`."""

    terms: tuple[Term, ...]
    constant: np.ndarray
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_cut(self) -> bool:
        return not math.isinf(self.low) or not math.isinf(self.high)

    def times(self, factor: np.ndarray) -> Terms:
        if self.is_cut and not (factor > 0).all():
            raise NoTerms("a number that is not positive follows its activation")
        low, high = (_scaled(bound, factor) for bound in (self.low, self.high))
        terms = tuple(replace(term, coefficient=term.coefficient * factor) for term in self.terms)
        return Terms(terms, self.constant * factor, low, high)

    def plus(self, other: Terms) -> Terms:
        if self.is_cut or other.is_cut:
            raise NoTerms("an activation is in front of an addition")
        return Terms((*self.terms, *other.terms), self.constant + other.constant)

    def cut(self, low: float, high: float) -> Terms:
        least = min(max(self.low, low), high)
        return replace(self, low=least, high=max(min(self.high, high), least))


def terms_of(value: Value) -> Terms:
    """The terms of a value in float32. Raises NoTerms with the reason where it has none."""
    if value.constant is not None:
        return Terms((), value.constant.astype(np.float64))
    node = value.producer
    if node is None or node.domain or not value.is_static:
        raise NoTerms(f"'{value.name}' is not computed of integers")
    operands = [v for v in node.inputs if v is not None]
    if node.op_type in ADDITIONS:
        total, *others = map(terms_of, operands)
        for other in others:
            total = total.plus(other.times(np.array(-1.0)) if node.op_type == "Sub" else other)
        return total
    if node.op_type in ACTIVATIONS:
        return terms_of(operands[0]).cut(*_bounds(node))
    if node.op_type == "HardSigmoid":
        sloped = terms_of(operands[0]).times(np.array(node.float("alpha", 0.2)))
        return sloped.plus(Terms((), np.array(node.float("beta", 0.5)))).cut(0.0, 1.0)
    if node.op_type == "Div" and operands[1].constant is not None and (operands[1].constant != 0).all():
        return terms_of(operands[0]).times(1 / operands[1].constant.astype(np.float64))
    if node.op_type == "Mul":
        for scaled, factor in (operands, operands[::-1]):
            if factor.constant is not None:
                return terms_of(scaled).times(factor.constant.astype(np.float64))
    return Terms((source_of(node),), np.zeros(()))


def _scaled(bound: float, factor: np.ndarray) -> float:
    if bound == 0 or math.isinf(bound):
        return bound
    if factor.size != 1:
        raise NoTerms("the range of its activation differs by channel")
    return bound * float(factor.reshape(()))


def _bounds(node: Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, math.inf
    low, high = node.input(1), node.input(2)
    least = -math.inf if low is None else low.scalar()
    greatest = math.inf if high is None else high.scalar()
    if least is None or greatest is None:
        raise NoTerms("a bound of its activation is not a single number")
    return float(least), float(greatest)
