"""max and min of floats as one instruction on 64-bit ARM.

TVM writes them as a comparison and a choice, which LLVM must not join: where one operand is NaN the choice gives the
second, fmax and fmin NaN. NaN is what ONNX asks for, so on processors that have these instructions they are better
in both respects. Elsewhere (x86) comparison and choice are one instruction already.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx

from graphopt.targets.lower.tensors import Expr, dtype_of

INSTRUCTIONS = {tirx.Max: "llvm.maximum", tirx.Min: "llvm.minimum"}

FLOATS = ("float16", "float32", "float64")


def as_instructions(statement: tirx.Stmt) -> tirx.Stmt:
    """Replace every max and min of floats, scalar or vector, by LLVM's intrinsic."""

    def replace(node: tirx.Max | tirx.Min) -> Expr:
        dtype = dtype_of(node)
        if not dtype.startswith(FLOATS):
            return node
        return tirx.call_llvm_pure_intrin(dtype, INSTRUCTIONS[type(node)], node.a, node.b)

    return tvm_ffi.structural_map(statement, ((tirx.Max, tirx.Min), replace))
