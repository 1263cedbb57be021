"""Products with one-hot rows are rows of a table.

    MatMul(Cast(Equal(x, [0 .. K-1])), W)  -->  Gather([0; W; 0], Clip(x, -1, K) + 1)
    Gelu(Gather(C, i))                     -->  Gather(Gelu(C), i)       any function of one element
    Add(Gather(C, i), b)                   -->  Gather(Add(C, b), i)     b along the rows; also Sub, Mul, Div

The row of zeros before and behind the table answers for numbers that are no class. The sum of a one-hot row has one
term that is not zero, so nothing is rounded. A table is computed on where it is no larger than what is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import DType, Value
from graphopt.onnx_io.infer import UNARY_ELEMENTWISE
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Const, Match, Op, Rule
from graphopt.runtime.reference import evaluate_node

INDICES = (DType.int32, DType.int64)
ARITHMETIC = ("Add", "Div", "Mul", "Sub")


class OneHotProduct(Rule):
    """MatMul(Cast(Equal(x, [0 .. K-1])), W) --> Gather([0; W; 0], Clip(x, -1, K) + 1)."""

    name = "recognize-lookup"
    pattern = Op("MatMul", Op("Cast", Op("Equal", Any("x"), Const("classes"))), Const("w"))

    def check(self, match: Match) -> str | None:
        x, classes, w = match["x"], match.data("classes"), match.data("w")
        if x.dtype not in INDICES or x.shape is None or w.dtype.kind != "f":
            return "it does not compare whole numbers, or multiplies none but floats"
        if not x.shape or x.shape[-1] != 1 or sum(isinstance(dim, str) for dim in x.shape) > 1:
            return "the numbers are not alone along the last axis"
        if w.ndim != 2 or classes.ndim > len(x.shape) or classes.size != w.shape[0]:
            return "the table is no matrix with a row for each class"
        if classes.shape[-1:] != w.shape[:1] or (classes.reshape(-1) != np.arange(w.shape[0])).any():
            return "the classes are not 0, 1, 2 ... along the last axis"
        return None if np.isfinite(w).all() else "zero times a row that is not finite is not zero"

    def rewrite(self, match: Match, build: Builder) -> Value:
        x, w = match["x"], match["w"]
        assert x.shape is not None
        bounds = (build.const(bound, like=x) for bound in (-1, w.static_shape[0]))
        row = build.op("Add", build.op("Clip", x, *bounds), build.const(1, like=x))
        kept = [-1 if isinstance(dim, str) else dim for dim in x.shape[:-1]]
        table = np.pad(match.data("w"), ((1, 1), (0, 0)))
        return build.op(
            "Gather", build.const(table, name=w.name), build.op("Reshape", row, build.shape(kept))
        )


class FunctionOfLookup(Rule):
    """Gelu(Gather(C, i)) --> Gather(Gelu(C), i), the table computed at once."""

    name = "function-of-lookup"
    pattern = Op(
        [*sorted(UNARY_ELEMENTWISE - {"Dropout"}), *ARITHMETIC],
        Op("Gather", Const("table"), Any("rows"), bind="gather"),
        more=True,
    )

    def check(self, match: Match) -> str | None:
        gather, table, found = match.node("gather"), match["table"], match.root.output
        if gather.int("axis") or not table.rank:
            return "it does not gather rows"
        if not found.is_static or found.size < table.size:
            return "the table is larger than what is gathered from it"
        if found.shape != gather.output.shape:
            return "the shape changes"
        others = [v for v in match.root.inputs if v is not None and v is not gather.output]
        if any(v.constant is None for v in others):
            return "another operand is not constant"
        if any(any(dim != 1 for dim in v.static_shape[: 1 - table.rank or None]) for v in others):
            return "another operand differs from row to row"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        gathered, rank = match.node("gather").output, match["table"].rank
        operands = []
        for value in match.root.inputs:
            data = match.data("table") if value is gathered else None if value is None else value.constant
            if data is not None and value is not gathered:
                data = data.reshape(data.shape[max(data.ndim - rank + 1, 0) :])  # type: ignore[operator]
            operands.append(data)
        table = evaluate_node(match.root, operands)[0]
        return build.op("Gather", build.const(table, name=match["table"].name), match["rows"])


RULES = (OneHotProduct(), FunctionOfLookup())


@dataclass(frozen=True)
class RecognizeLookup(RulePass):
    """Find products with one-hot rows, and compute on tables rather than on what is looked up."""

    name: ClassVar[str] = "recognize-lookup"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
