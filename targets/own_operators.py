"""Operators of our own in TensorIR, which TVM carries along until one of our passes writes them out."""

from __future__ import annotations

from functools import cache

from tvm import tirx
from tvm.ir import Op, register_op_attr


@cache
def own_operator(name: str) -> Op:
    """The operator `name`: without side effects, and made of vectors where its loop is."""
    register_op_attr(name, "TVectorizable", True)
    register_op_attr(name, "TCallEffectKind", tirx.CallEffectKind.Pure.value)
    register_op_attr(name, "TScriptPrinterName", name)
    return Op.get(name)
