"""Float tails of integer sums in 32-bit fixed point, for processors without floats.

    Q(Mul(Cast(sums), c), s, z)         -->  quant::Requantize(sums, M) {zero_point: z}                M stands for c/s
    Q(Relu(Mul(Cast(sums), c)), s, z)   -->  the same with {low: z}             Clip alike: `low` and `high` cut bytes
    Q(AveragePool(DQ(x, s, z)), s, z)   -->  quant::Requantize(quant::SumPool(x) {x_zero_point: z}, 1/n) {zero_point: z}
    Q(Add(DQ(x, r, y), DQ(v, t, w)), s, z)
        -->  quant::Requantize(Cast(x) round(2^k r/s) + Cast(v) round(2^k t/s) + o, 2^-k) {zero_point: z}
    Q(Add(Mul(Cast(sums), c), DQ(v, t, w)), s, z)
        -->  quant::Requantize(quant::Requantize(sums, 2^k c/s) + Cast(v) round(2^k t/s) + o, 2^-k) {zero_point: z}
    Q(Softmax(DQ(x)))                    -->  quant::Softmax(x, table), see `fixed_softmax`; `fixed_hard_swish` alike

with whatever `fixed_terms` knows in the place of those sums. Results are at most one step from what the float tail
makes; `graphopt/runtime/fixed_point.py` has the definition, its bound and what it costs. A sum of several terms has k
bits behind the point, as many as its largest value leaves of 32 (o collects zero points and constants): their rounding
is worth a quarter of a step at most, or the tail stays in floats, with the reason.

The contract of `graphopt.quant`, besides `lower_integer`'s:

- `Requantize(x, multiplier, shift?) {zero_point, low, high, fits} -> int8, uint8, int32`: x is int32; the multiplier
  and the shift are constants in int32 that broadcast against x, single numbers or one per channel; no shift is one of
  zero. `fits` tells that x 2^shift fits int32, so that nothing saturates; a result in int32 without `low` is always so.
  `low` and `high` lie within the type of the result.
- `SumPool(x) {x_zero_point} -> int32`: the sums of (x - x_zero_point) over the taps of AveragePool's windows that are
  inside the image, with its attributes but `count_include_pad`; x is int8 or uint8, and `kernel_shape` always there.
- `Softmax(x, table) {axis, steps, zero_point} -> int8, uint8`: see `fixed_softmax`.

The rest is ONNX's Cast, Mul, Add, Sub, Max and ReduceSum on int32, which do not overflow. In blocks, a Requantize has
x, multiplier, shift and result in blocks of one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.passes.fixed_bias import with_matching_bias
from graphopt.passes.fixed_hard_swish import FixedHardSwish
from graphopt.passes.fixed_softmax import FixedSoftmax
from graphopt.passes.fixed_sources import NoTerms
from graphopt.passes.fixed_sums import check_term, fraction_of, requantize, sum_of
from graphopt.passes.fixed_terms import Terms, terms_of
from graphopt.passes.integers import BYTES, LARGEST_SUM, limits
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule
from graphopt.rewrite.match import Misses
from graphopt.rewrite.pattern import find


class FixedTail(Rule):
    """Q(terms, s, z) --> quant::Requantize(terms in int32, multiplier)."""

    name = "requantize-fixed"
    pattern = Op("QuantizeLinear", Any("x"), Const("s"), Const("z", optional=True))

    def check(self, match: Match) -> str | None:
        try:
            _Tail(match)
        except NoTerms as reason:
            return str(reason)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return _Tail(match).built(build)


class _Tail:
    """A float tail in units of the result's scale. Raises NoTerms where it does not fit."""

    def __init__(self, match: Match) -> None:
        self.output = match.root.output
        scale = match["s"].scalar()
        zero = 0 if match.get("z") is None else match["z"].scalar()
        if self.output.dtype not in BYTES or not self.output.is_static:
            raise NoTerms("its results are no bytes of a known shape")
        if scale is None or zero is None or not scale > 0:
            raise NoTerms("it has a scale or a zero point for each channel")
        self.zero = int(zero)
        self.terms: Terms = terms_of(match["x"]).times(np.array(1 / scale))
        if not self.terms.terms:
            raise NoTerms("it is constant")
        for term in self.terms.terms:
            check_term(term)
        self.fraction = None if self._is_one_sum else fraction_of(self.terms)

    @property
    def _is_one_sum(self) -> bool:
        """One multiplication is all there is."""
        first, *others = self.terms.terms
        whole = not others and not first.is_bytes and not self.terms.constant.any()
        return whole and bool((first.coefficient > 0).all()) and first.shape == self.output.shape

    def built(self, build: Builder) -> Value:
        if self.fraction is None:
            (term,) = self.terms.terms
            sums = with_matching_bias(build, term.make(build), term.coefficient, self.output)
            return self._requantized(build, sums, term.reach, term.coefficient)
        total = sum_of(build, self.terms, self.fraction, self.output.static_shape)
        return self._requantized(build, total, np.array(LARGEST_SUM), np.array(2.0**-self.fraction))

    def _requantized(self, build: Builder, x: Value, reach: np.ndarray, scale: np.ndarray) -> Value:
        within = limits(self.output.dtype)
        assert within is not None and self.output.type is not None
        low, high = (
            int(min(max(np.rint(bound) + self.zero, within[0]), within[1]))
            for bound in (self.terms.low, self.terms.high)
        )
        bounds = {"zero_point": self.zero, "low": low, "high": high}
        return requantize(build, x, reach, scale, self.output.type, **bounds)


RULES = (FixedSoftmax(), FixedHardSwish(), FixedTail())


@dataclass(frozen=True)
class RequantizeFixed(RulePass):
    """Requantise in 32-bit fixed point what one step is exact enough for."""

    name: ClassVar[str] = "requantize-fixed"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES


def left_in_floats(graph: Graph) -> dict[Node, str]:
    """The nodes that read or make floats, each with the reason why it is not in fixed point; in order."""
    found = [node for node in graph.nodes if any(map(_is_float, (*node.inputs, *node.outputs)))]
    return {node: _why(node) for node in found}


def _why(node: Node) -> str:
    rule, misses = FixedTail(), Misses()
    match = find(rule.pattern, node, misses) if node.is_op("QuantizeLinear") else None
    if match is not None:
        return rule.check(match) or "the pass has not run"
    return "its operands are floats" if any(_is_float(v) for v in node.inputs) else "its result is floats"


def _is_float(value: Value | None) -> bool:
    return value is not None and value.type is not None and value.dtype.is_float
