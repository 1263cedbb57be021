"""Scaled dot-product attention spelt out of primitives, back to one operator.

    MatMul(Softmax(MatMul(q, k^T) * s [+ mask]), v)   -->   Attention(q, k, v, mask, scale=s)

on four-dimensional q, k, v: (batch, heads, tokens, width). The scale may be a quotient, or stand on q or on k
instead of the scores. k^T is a Transpose that ends in the last two axes swapped; what it moves besides stays behind
as a Transpose of k. A mask of padding, one row for all queries, is expanded. Where(keep, scores, -10000), with a
constant `keep` that leaves a key to every query, is the addition of -10000 elsewhere. Source: Vaswani et al.,
"Attention is all you need", 2017; ONNX, Attention-23.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Either, Match, Op, Pattern, Rule, Scalar


def _scaled(inner: Pattern, name: str) -> Either:
    """`inner`, times or over a single number bound to `name`, or alone."""
    return Either(
        Op("Mul", inner, Scalar(None, name), bind=f"{name} factor"),
        Op("Div", inner, Scalar(None, name), bind=f"{name} divisor"),
        inner,
    )


_KEYS = Op("Transpose", _scaled(Any("k"), "k scale"), bind="transpose")
_KEYS_SCALED_LATE = _scaled(Op("Transpose", Any("k"), bind="transpose"), "k scale")
_SCORES = _scaled(
    Op("MatMul", _scaled(Any("q"), "q scale"), Either(_KEYS, _KEYS_SCALED_LATE), bind="scores"), "scale"
)
_MASKED = Either(
    Op("Add", _SCORES, Any("mask")),
    Op("Where", Const("keep"), _SCORES, Scalar(None, "fill")),
    _SCORES,
)

NEGLIGIBLE = -1e4
"""A score this low beside an ordinary one has an exponential of zero, in float32 and below."""


class Attention(Rule):
    """MatMul(Softmax(q k^T s + mask), v) --> Attention(q, k, v, mask, scale=s)."""

    name = "recognize-attention"
    pattern = Op("MatMul", Op("Softmax", _MASKED, bind="softmax"), Any("v"))

    def check(self, match: Match) -> str | None:
        q, k, v = match["q"], match["k"], match["v"]
        if any(t.rank != 4 or not t.is_static for t in (q, k, v)):
            return "q, k and v are not static with four dimensions"
        order = _keys_order(match)
        keys = tuple(k.static_shape[axis] for axis in order)
        if match.node("softmax").int("axis", -1) not in (-1, 3):
            return "softmax is not over the keys"
        if q.static_shape[:2] != keys[:2] or keys[:3] != v.static_shape[:3]:
            return "batch or heads of q, k and v differ"
        if match.has("keep"):
            return self._reason_against_choice(match)
        mask = match.get("mask")
        if mask is not None:
            wanted = match.node("scores").output.shape
            if not mask.is_static or mask.rank not in (2, 3, 4) or wanted is None:
                return "the mask's shape is not known"
            given = (1,) * (4 - len(mask.static_shape)) + mask.static_shape
            fits = all(m in (1, w) for m, w in zip(given, wanted, strict=True)) and given[3] == wanted[3]
            if not fits:
                return f"the mask {list(mask.static_shape)} does not cover every key"
        return None

    @staticmethod
    def _reason_against_choice(match: Match) -> str | None:
        keep, wanted = match.data("keep"), match.node("scores").output.static_shape
        fits = keep.ndim in (2, 3, 4) and all(
            k in (1, w) for k, w in zip(keep.shape[::-1], wanted[::-1], strict=False)
        )
        if not fits or keep.shape[-1] != wanted[-1]:
            return f"the mask {list(keep.shape)} does not cover every key"
        if not keep.any(axis=-1).all():
            return "a query is left without keys"
        fill = float(match["fill"].scalar() or 0)
        return None if fill <= NEGLIGIBLE else f"{fill:g} does not mask"

    def rewrite(self, match: Match, build: Builder) -> Value:
        scale = 1.0
        for name in ("scale", "q scale", "k scale"):
            if match.get(name) is None:
                continue
            number = float(match.data(name).reshape(-1)[0])
            scale = scale / number if f"{name} divisor" in match.named else scale * number
        k, order = match["k"], _keys_order(match)
        if order != (0, 1, 2, 3):
            k = build.op("Transpose", k, perm=order)
        operands = [match["q"], k, match["v"]]
        mask = match.get("mask")
        if match.has("keep"):
            added = np.where(match.data("keep"), 0, match.data("fill").reshape(()))
            mask = build.const(added, like=match["q"], name=match["keep"].name)
        if mask is not None:
            operands.append(self._for_every_query(match, mask, build))
        return build.op("Attention", *operands, scale=scale)

    @staticmethod
    def _for_every_query(match: Match, mask: Value, build: Builder) -> Value:
        """The mask with one row for each query: ONNX Runtime does not repeat a single one."""
        queries, shape = match["q"].static_shape[2], mask.static_shape
        if shape[-2] == queries:
            return mask
        return build.op("Expand", mask, build.shape([*shape[:-2], queries, shape[-1]]))


def _keys_order(match: Match) -> tuple[int, ...]:
    """What the keys' transpose does besides swapping the last two axes."""
    order = match.node("transpose").ints("perm", (3, 2, 1, 0))
    assert order is not None
    return (*order[:-2], order[-1], order[-2])


RULES = (Attention(),)


@dataclass(frozen=True)
class RecognizeAttention(RulePass):
    """Find scaled dot-product attention that is spelt out of primitives."""

    name: ClassVar[str] = "recognize-attention"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
