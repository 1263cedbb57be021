"""Means before the pointwise convolutions that they follow.

    AveragePool(Conv(x, W, b))  -->  Conv(AveragePool(x), W, b)      W of one tap

Both are linear, one along the pixels and one along the channels, and the mean of a bias is the bias: they may change
places, and the convolution has fewer pixels to do. DenseNet's transitions take a quarter of the multiplications so. A
mean that counts zeros beyond the image would count less of the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Node, Value
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Match, Op, Rule


class PoolBeforePointwise(Rule):
    """AveragePool(Conv(x, W, b)) --> Conv(AveragePool(x), W, b)."""

    name = "pool-first"
    pattern = Op(
        ("AveragePool", "GlobalAveragePool"),
        Op("Conv", Any("x"), Any("w"), Any("b", optional=True), bind="conv"),
        bind="pool",
    )

    def check(self, match: Match) -> str | None:
        conv, pool = match.node("conv"), match.node("pool")
        if not _is_pointwise(conv):
            return "the convolution is not pointwise"
        if _counts_pads(pool):
            return "the pool counts its pads"
        if not (conv.output.is_static and pool.output.is_static) or pool.output.size >= conv.output.size:
            return "the pool is not known to leave fewer pixels"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        conv, pool = match.node("conv"), match.node("pool")
        mean = build.op(pool.op_type, match["x"], **pool.attributes)
        return [build.op("Conv", mean, *conv.inputs[1:], **conv.attributes)]


def _is_pointwise(conv: Node) -> bool:
    weights = conv.input(1)
    assert weights is not None
    if not weights.is_static or any(dim != 1 for dim in weights.static_shape[2:]):
        return False
    return all(step == 1 for step in conv.ints("strides", ()) or ()) and not any(conv.ints("pads", ()) or ())


def _counts_pads(pool: Node) -> bool:
    if not pool.int("count_include_pad"):
        return False
    return pool.str("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(pool.ints("pads", ()) or ())


RULES = (PoolBeforePointwise(),)


@dataclass(frozen=True)
class PoolFirst(RulePass):
    """Take means before pointwise convolutions."""

    name: ClassVar[str] = "pool-first"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
