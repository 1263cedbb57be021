"""Maxima and minima of floats: NaN where either operand is NaN.

TVM's max is a comparison and a choice, which gives the second operand where one is NaN. That is all a Relu needs, and
one instruction on x86. `maximum` and `minimum`, for what has NaN on either side (Max, Min, ReduceMax, ReduceMin), are
operators of our own, which TVM carries along until `lower_extrema` writes them out: the first operand, if it is NaN,
else the choice. On 64-bit ARM fmax and fmin are one instruction each and give NaN by themselves. LLVM must not take
them for a comparison and a choice, so there every max and min is written as the instruction.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from graphopt.targets.lower.arithmetic import is_float
from graphopt.targets.lower.tensors import Expr, dtype_of
from graphopt.targets.own_operators import own_operator

MAXIMUM, MINIMUM = "graphopt.maximum", "graphopt.minimum"

CHOICES = {MAXIMUM: tirx.max, MINIMUM: tirx.min}

INSTRUCTIONS = {tirx.Max: "llvm.maximum", tirx.Min: "llvm.minimum"}

FLOATS = ("float16", "float32", "float64")


def maximum(x: Expr, y: Expr) -> Expr:
    """The larger, or NaN where either is NaN."""
    return _call(MAXIMUM, x, y)


def minimum(x: Expr, y: Expr) -> Expr:
    """The smaller, or NaN where either is NaN."""
    return _call(MINIMUM, x, y)


def lower_extrema(statement: tirx.Stmt, *, instructions: bool) -> tirx.Stmt:
    """Write out `maximum` and `minimum`; with `instructions`, every max and min as the one that keeps NaN."""

    def written_out(call: Call) -> Expr:
        choice = CHOICES.get(getattr(call.op, "name", ""))
        if choice is None:
            return call
        if instructions:
            return choice(*call.args)
        x, y = call.args
        first = tirx.Var("first", x.ty)
        return tirx.Let(first, x, tirx.Select(tirx.isnan(first), first, choice(first, y)))

    def as_instruction(node: tirx.Max | tirx.Min) -> Expr:
        dtype = dtype_of(node)
        if not dtype.startswith(FLOATS):
            return node
        return tirx.call_llvm_pure_intrin(dtype, INSTRUCTIONS[type(node)], node.a, node.b)

    statement = tvm_ffi.structural_map(statement, (Call, written_out))
    if not instructions:
        return statement
    return tvm_ffi.structural_map(statement, ((tirx.Max, tirx.Min), as_instruction))


def _call(name: str, x: Expr, y: Expr) -> Expr:
    dtype = dtype_of(x)
    return Call(own_operator(name), [x, y], ret_ty=dtype) if is_float(dtype) else CHOICES[name](x, y)
