"""Conversion between element types: Cast, CastLike, BitCast."""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import DType, Node
from graphopt.targets.lower.arithmetic import is_float
from graphopt.targets.lower.narrow import decode, encode
from graphopt.targets.lower.support import NARROW
from graphopt.targets.lower.tensors import Expr, dtype_of, shape_of, storage


def convert(x: Expr, source: DType, target: DType, *, saturate: bool = True) -> Expr:
    """One element of type `source`, in its storage type, as an element of type `target`.

    Floats become integers by truncation; integers keep their low bits; anything but zero is true. `saturate`
    concerns the 8-bit floats: a number out of range becomes the largest one instead of infinity or NaN.
    """
    if source is target:
        return x
    if source in NARROW:
        x = decode(x, source)
    if target in NARROW:
        return encode(x, target, saturate=saturate)
    kind = storage(target)
    if dtype_of(x) == kind:
        return x
    if dtype_of(x) == "bfloat16" and kind != "float32":
        x = x.astype("float32")
    if kind == "bool":
        return tirx.NE(x, tirx.const(0, dtype_of(x)))
    if is_float(dtype_of(x)) and target.is_integer and target.bits < 64:
        # Narrow integers by way of a wide one: out of range, the low bits remain on every machine.
        x = x.astype("int64" if target.bits == 32 else "int32")
    if kind == "bfloat16" and dtype_of(x) != "float32":
        x = x.astype("float32")
    return x.astype(kind)


def cast(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    source = node.inputs[0]
    x = inputs[0]
    assert x is not None and source is not None
    target, saturate = node.output.dtype, bool(node.int("saturate", 1))
    return te.compute(
        shape_of(x), lambda *i: convert(x(*i), source.dtype, target, saturate=saturate), name="cast"
    )


def cast_like(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    return cast(node, inputs[:1])


def bitcast(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The same bits as another type of the same size."""
    x = inputs[0]
    assert x is not None
    kind = storage(node.output.dtype)

    def element(*indices: Expr) -> Expr:
        value = x(*indices)
        if dtype_of(value) == kind:
            return value
        if "bool" in (dtype_of(value), kind):
            return value.astype(kind)
        return tirx.reinterpret(kind, value)

    return te.compute(shape_of(x), element, name="bitcast")
