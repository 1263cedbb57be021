"""Canonical forms of reshapes and transposes.

Flatten, Squeeze, Unsqueeze, Reshape with 0 or -1, of a static shape   -->  Reshape(x, shape)
Transpose that moves axes of one element alone                         -->  Reshape(x, shape)
Reshape(Reshape(x, s), t)                                              -->  Reshape(x, t)
Reshape(ReduceSum(x, keepdims=0)) back to the kept shape               -->  ReduceSum(x, keepdims=1)
Transpose(Transpose(x, p), q)                                          -->  Transpose(x, p[q])
"""

from __future__ import annotations

from graphopt.ir import Value
from graphopt.passes.algebra import REDUCTIONS, reduced_axes
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule


class ReshapeForms(Rule):
    """Flatten, Squeeze, Unsqueeze, transposes of unit axes --> Reshape, where the shape is known.

    One unknown dimension of the result becomes -1. A Reshape that copies dimensions (0) or leaves a known one
    to be computed (-1) says its shape outright.
    """

    name = "reshape-forms"
    pattern = Op("Flatten Squeeze Unsqueeze Transpose Reshape".split(), Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        node, shape = match.root, match.root.output.shape
        if node.op_type == "Transpose" and not self._moves_units_only(match):
            return "it moves elements"
        if shape is None or sum(isinstance(d, str) for d in shape) > 1 or 0 in shape:
            return "more than one dimension of the result is unknown"
        if node.op_type == "Reshape":
            target = node.input(1)
            if target is None or target.constant is None or list(target.constant) == self._target(match):
                return "it says its shape already, or its shape is computed"
        return None

    @staticmethod
    def _target(match: Match) -> list[int]:
        return [d if isinstance(d, int) else -1 for d in match.root.output.shape or ()]

    @staticmethod
    def _moves_units_only(match: Match) -> bool:
        order, shape = match.root.ints("perm"), match["x"].shape
        if order is None or shape is None:
            return False
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Reshape", match["x"], build.shape(self._target(match)))


class ReshapeChain(Rule):
    """Reshape(Reshape(x, s), t) --> Reshape(x, t): the first one's shape does not matter."""

    name = "reshape-chain"
    pattern = Op("Reshape", Op("Reshape", Any("x"), Any(), shared=True), Const("target"))

    def check(self, match: Match) -> str | None:
        if (match.data("target") == 0).any():
            return "a dimension of the target is copied from the inner shape"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.op("Reshape", match["x"], match["target"])


class KeepReducedAxes(Rule):
    """Reshape(ReduceSum(x, keepdims=0)) back to the kept shape --> ReduceSum(x, keepdims=1)."""

    name = "keep-reduced-axes"
    pattern = Op(
        "Reshape",
        Op(REDUCTIONS, Any("x"), Const("axes", optional=True), bind="reduce", attributes={"keepdims": 0}),
        Const("target"),
    )

    def check(self, match: Match) -> str | None:
        axes, x = reduced_axes(match.node("reduce")), match["x"]
        if axes is None or x.shape is None or not x.is_static:
            return "the axes or the shape are not known"
        kept = tuple(1 if axis in axes else dim for axis, dim in enumerate(x.shape))
        return None if match.root.output.shape == kept else f"the kept shape is {list(kept)}"

    def rewrite(self, match: Match, build: Builder) -> Value:
        node = match.node("reduce")
        return build.op(node.op_type, *node.inputs, **{**node.attributes, "keepdims": 1})


class TransposeChain(Rule):
    """Transpose(Transpose(x, p), q) --> Transpose(x, p[q])."""

    name = "transpose-chain"
    pattern = Op("Transpose", Op("Transpose", Any("x"), bind="inner", shared=True), bind="outer")

    def check(self, match: Match) -> str | None:
        return None if match["x"].rank is not None else "the rank is unknown"

    def rewrite(self, match: Match, build: Builder) -> Value:
        rank = match["x"].rank or 0
        reverse = tuple(reversed(range(rank)))
        inner = match.node("inner").ints("perm", reverse)
        outer = match.node("outer").ints("perm", reverse)
        assert inner is not None and outer is not None
        return build.op("Transpose", match["x"], perm=tuple(inner[axis] for axis in outer))


RULES = (ReshapeForms(), ReshapeChain(), KeepReducedAxes(), TransposeChain())
