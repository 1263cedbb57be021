"""Control flow known before run time becomes straight-line code.

    If(true) {then} {else}                       -->  then
    If(c) {a} {b}, both cheap and of one shape   -->  Where(c, a, b)
    Loop, Scan                                   -->  see `unroll_loops`

The condition of an If is known when it follows from constants, though no pass has folded it yet. Where both
branches are computed, neither may fail on operands that are meant for the other: no division of integers by what
may be zero, no index from data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Graph, Node, TensorType, Value
from graphopt.onnx_io.infer import reason_against
from graphopt.passes.fold_constants import RANDOM
from graphopt.passes.partial_evaluation import known_value
from graphopt.passes.unroll_loops import UnrollLoop, UnrollScan, own, wanted
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Match, Op, Rule

INDEXED = frozenset(
    "Compress Gather GatherElements GatherND OneHot ScatterElements ScatterND TensorScatter".split()
)
"""Operators that read or write where an operand says."""


class InlineIf(Rule):
    """If with a known condition --> the branch that it takes."""

    name = "inline-if"
    pattern = Op("If", Any("condition"))

    def check(self, match: Match) -> str | None:
        return None if _taken(match.root) is not None else "the condition is not known"

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        branch = _taken(match.root)
        assert branch is not None
        return own(build, build.inline(branch, ()))


@dataclass(frozen=True)
class SelectBranch(Rule):
    """If with an open condition --> both branches, and a Where behind each output."""

    nodes: int
    name: ClassVar[str] = "select-branch"
    pattern = Op("If", Any("condition"))

    def check(self, match: Match) -> str | None:
        node, condition = match.root, match["condition"]
        branches = _branches(node)
        if _taken(node) is not None:
            return "the condition is known"
        if condition.type is None or not condition.type.is_static or condition.type.size != 1:
            return "the condition is not known to have one element"
        if sum(len(branch) for branch in branches) > self.nodes:
            return f"the branches have more than {self.nodes} nodes"
        for branch in branches:
            for member in branch.nodes:
                reason = _reason_against(member)
                if reason:
                    return f"'{member.name}' {reason}"
                if impossible := reason_against(member):
                    return f"a branch is never taken: {impossible}"
        for values in zip(*(branch.outputs for branch in branches), strict=True):
            if not _same_static_type([value.type for value in values]):
                return "the branches differ in type, or a shape is not static"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        condition = match["condition"]
        results = [build.inline(branch, ()) for branch in _branches(match.root)]
        if condition.rank:
            condition = build.op("Reshape", condition, build.shape(()))
        return [
            build.op("Where", condition, *values) if wanted(output) else None
            for output, *values in zip(match.root.outputs, *results, strict=True)
        ]


def _taken(node: Node) -> Graph | None:
    """The branch of an If whose condition is known."""
    condition = known_value(node.input(0), {})
    return None if condition is None else _branches(node)[0 if condition.any() else 1]


def _branches(node: Node) -> tuple[Graph, Graph]:
    then, otherwise = node.attr("then_branch"), node.attr("else_branch")
    assert isinstance(then, Graph) and isinstance(otherwise, Graph)
    return then, otherwise


def _reason_against(node: Node) -> str:
    """Why a node must not run unless its branch is taken; empty when it may."""
    if node.subgraphs:
        return "holds graphs itself"
    if node.op_type in RANDOM:
        return "is random"
    if node.op_type in ("Div", "Mod") and node.output.type is not None and node.output.dtype.is_integer:
        divisor = node.input(1)
        if divisor is None or divisor.constant is None or not divisor.constant.all():
            return "may divide by zero"
    if node.op_type in INDEXED and (node.input(1) is None or node.inputs[1].constant is None):  # type: ignore[union-attr]
        return "takes indices from data"
    return ""


def _same_static_type(types: Sequence[TensorType | None]) -> bool:
    first = types[0]
    if first is None or not first.is_static:
        return False
    return all(t is not None and t.dtype is first.dtype and t.shape == first.shape for t in types)


@dataclass(frozen=True)
class InlineBranches(RulePass):
    """Turn control flow whose way is known into straight-line code.

    `trips` bounds how often a body is repeated, `nodes` what an unrolled loop may hold, `select` the nodes that
    may be computed in vain for an If.
    """

    name: ClassVar[str] = "inline-branches"
    trips: int = 64
    nodes: int = 4096
    select: int = 32

    @property
    def rules(self) -> Sequence[Rule]:
        loops = (UnrollLoop(self.trips, self.nodes), UnrollScan(self.trips, self.nodes))
        return (InlineIf(), SelectBranch(self.select), *loops)


def why_open(node: Node) -> str:
    """Why an If, a Loop or a Scan has not become straight-line code; empty for other operators."""
    bounds = InlineBranches()
    rules: dict[str, Rule] = {
        "If": SelectBranch(bounds.select),
        "Loop": UnrollLoop(bounds.trips, bounds.nodes),
        "Scan": UnrollScan(bounds.trips, bounds.nodes),
    }
    rule = None if node.domain else rules.get(node.op_type)
    if rule is None:
        return ""
    reason = rule.check(Match({"condition": node.input(0)}, {}, (node,)))
    return reason or ""
