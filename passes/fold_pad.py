"""Padding into the convolution or pool that reads it.

Conv(Pad(x, p, 0), W, pads=q)                 -->  Conv(x, W, pads=p + q)
MaxPool(Pad(x, p, lowest), pads=q)            -->  MaxPool(x, pads=p + q)
AveragePool(Pad(x, p, 0), count_include_pad)  -->  AveragePool(x, pads=p)
Conv(Transpose(Pad(x, p), perm), W)           -->  Conv(Transpose(x, perm), W, pads=p[perm])    the pools likewise
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import Value
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule

WINDOWS = ("Conv", "MaxPool", "AveragePool")
_PADDED = Op(
    "Pad",
    Any("x"),
    Const("pads"),
    Const("value", optional=True),
    Const("axes", optional=True),
    bind="pad",
)


class FoldPadIntoWindow(Rule):
    """Conv(Pad(x, p, 0), W, pads=q) --> Conv(x, W, pads=p + q)."""

    name = "fold-pad"
    pattern = Op(WINDOWS, _PADDED, bind="window", more=True)

    def check(self, match: Match) -> str | None:
        pad, window = match.node("pad"), match.node("window")
        if pad.str("mode", "constant") != "constant":
            return f"it pads by {pad.str('mode')}, not by a constant"
        spatial = self._spatial(match)
        if spatial is None:
            return "it pads batch or channels, or cuts"
        if window.str("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return "the window pads by itself"
        value = 0.0 if match.get("value") is None else float(match.data("value").reshape(-1)[0])
        if window.op_type == "MaxPool":
            lowest = float(np.finfo(np.float32).min)
            if any(v.uses or v.is_graph_output for v in window.outputs[1:]):
                return "the indices of the maxima are used"
            return None if value <= lowest else f"it pads by {value:g}, which may be a maximum"
        if value != 0:
            return f"it pads by {value:g}, not by zero"
        if window.op_type == "AveragePool" and (
            not window.int("count_include_pad") or window.int("ceil_mode")
        ):
            own = window.ints("pads", ())
            if any(own or ()) or window.int("ceil_mode"):
                return "the pool does not count its own pads"
        return None

    def permutation(self, match: Match) -> tuple[int, ...] | None:
        """Axis i of the window's operand is this axis of x; None when it is not known."""
        return None if match["x"].rank is None else tuple(range(match["x"].rank))

    def _spatial(self, match: Match) -> tuple[int, ...] | None:
        """Begin pads, then end pads, of the spatial axes; None when others are padded or any is negative."""
        order = self.permutation(match)
        if order is None:
            return None
        rank = len(order)
        given = [int(p) for p in match.data("pads")]
        axes = [int(a) % rank for a in match.data("axes")] if match.get("axes") is not None else range(rank)
        count = len(given) // 2
        low, high = [0] * rank, [0] * rank
        for axis, begin, end in zip(axes, given[:count], given[count:], strict=True):
            low[axis], high[axis] = begin, end
        low, high = [low[axis] for axis in order], [high[axis] for axis in order]
        if any(low[:2]) or any(high[:2]) or min(*low, *high) < 0:
            return None
        return (*low[2:], *high[2:])

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        window = match.node("window")
        added = self._spatial(match)
        assert added is not None
        own = window.ints("pads", (0,) * len(added)) or (0,) * len(added)
        attributes = {k: v for k, v in window.attributes.items() if k != "auto_pad"}
        attributes["pads"] = tuple(a + b for a, b in zip(added, own, strict=True))
        if window.op_type == "AveragePool":
            attributes["count_include_pad"] = 1
        operands = (self.operand(match, build), *window.inputs[1:])
        return build.ops(window.op_type, *operands, outputs=len(window.outputs), **attributes)

    def operand(self, match: Match, build: Builder) -> Value:
        """What the window reads afterwards."""
        return match["x"]


class FoldPadBehindTranspose(FoldPadIntoWindow):
    """Conv(Transpose(Pad(x, p), perm), W) --> Conv(Transpose(x, perm), W, pads=p[perm])."""

    name = "fold-pad-behind-transpose"
    pattern = Op(WINDOWS, Op("Transpose", _PADDED, bind="transpose"), bind="window", more=True)

    def permutation(self, match: Match) -> tuple[int, ...] | None:
        rank = match["x"].rank
        return None if rank is None else match.node("transpose").ints("perm", tuple(reversed(range(rank))))

    def operand(self, match: Match, build: Builder) -> Value:
        return build.op("Transpose", match["x"], perm=self.permutation(match))


RULES = (FoldPadIntoWindow(), FoldPadBehindTranspose())


@dataclass(frozen=True)
class FoldPad(RulePass):
    """Fold constant padding into the windows of convolutions and pools."""

    name: ClassVar[str] = "fold-pad"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
