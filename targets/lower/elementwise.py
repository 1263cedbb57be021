"""Element-wise operators: one read per operand, numpy broadcasting, one write.

Arithmetic on float16 and bfloat16 is done in float32 and rounded once. Integer division truncates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.extrema import maximum, minimum
from graphopt.targets.lower.activations import ACTIVATIONS
from graphopt.targets.lower.arithmetic import (
    divide,
    error_function,
    floor_modulo,
    fmod,
    is_float,
    library_function,
    like,
    power,
    round_half_even,
    signed,
)
from graphopt.targets.lower.conversion import bitcast, cast, cast_like
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    broadcast_shape,
    dtype_of,
    shape_of,
    storage,
    widen,
)


def elementwise(name: str, function: Callable[..., Expr]) -> Lowering:
    """Lower with `function(node, operand...)` on one element of each operand, widened; None: left out."""

    def lower(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
        present = [tensor for tensor in inputs if tensor is not None]
        result = storage(node.output.dtype)

        def element(*indices: Expr) -> Expr:
            operands = [None if t is None else widen(broadcast_read(t, indices)) for t in inputs]
            value = function(node, *operands)
            return value if dtype_of(value) == result else value.astype(result)

        return te.compute(broadcast_shape(*present), element, name=name)

    return lower


# --- functions of one operand ---


def _sign(node: Node, x: Expr) -> Expr:
    zero, one = like(0, x), like(1, x)
    if dtype_of(x).startswith("uint"):
        return tirx.Select(tirx.NE(x, zero), one, zero)
    return tirx.Select(x > zero, one, tirx.Select(x < zero, like(-1, x), x))


def _is_inf(node: Node, x: Expr) -> Expr:
    limit = tirx.const(math.inf, dtype_of(x))
    never = tirx.const(False, "bool")
    positive = tirx.EQ(x, limit) if node.int("detect_positive", 1) else never
    negative = tirx.EQ(x, tirx.const(-math.inf, dtype_of(x))) if node.int("detect_negative", 1) else never
    return tirx.Or(positive, negative)


def _abs(node: Node, x: Expr) -> Expr:
    return x if dtype_of(x).startswith("uint") else tirx.abs(x)


def _unary(function: Callable[[Expr], Expr]) -> Callable[[Node, Expr], Expr]:
    return lambda node, x: function(x)


# --- functions of several operands ---


def _fold(step: Callable[[Expr, Expr], Expr]) -> Callable[..., Expr]:
    def function(node: Node, first: Expr, *others: Expr) -> Expr:
        for other in others:
            first = step(first, other)
        return first

    return function


def _mean(node: Node, *operands: Expr) -> Expr:
    total = _fold(lambda a, b: a + b)(node, *operands)
    return total * like(1 / len(operands), total)


def _mod(node: Node, x: Expr, y: Expr) -> Expr:
    dtype = dtype_of(x)
    if is_float(dtype):
        return fmod(x, y) if node.int("fmod") else floor_modulo(x, y)
    return tirx.truncmod(x, y) if node.int("fmod") or dtype.startswith("uint") else tirx.floormod(x, y)


def _pow(node: Node, x: Expr, y: Expr) -> Expr:
    exponent = node.inputs[1]
    assert exponent is not None
    return power(x, y, exponent.scalar())


def _bit_shift(node: Node, x: Expr, y: Expr) -> Expr:
    """Shifting by the width or more, or by a negative count, leaves nothing but the sign."""
    dtype = dtype_of(x)
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    within = tirx.EQ(y >> like(bits.bit_length() - 1, y), like(0, y))
    count = tirx.Select(within, y, like(0, y))
    if node.str("direction") == "LEFT":
        return tirx.Select(within, x << count, like(0, x))
    rest = like(0, x) if dtype.startswith("uint") else x >> like(bits - 1, x)
    return tirx.Select(within, x >> count, rest)


def _clip(node: Node, x: Expr, low: Expr | None = None, high: Expr | None = None) -> Expr:
    x = x if low is None else tirx.max(low, x)
    return x if high is None else tirx.min(high, x)


def _equal(node: Node, x: Expr, y: Expr) -> Expr:
    if dtype_of(x) == "bool":
        return tirx.Not(_differ(x, y))
    return tirx.EQ(x, y)


def _differ(x: Expr, y: Expr) -> Expr:
    """Exclusive or of booleans; TVM's code generator takes `!=` on them for a comparison of floats."""
    return tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y))


def _dropout(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor | list[te.Tensor]:
    """At inference a copy, and a mask of ones. Raises UnsupportedError in training mode."""
    training = node.input(2)
    ratio = node.input(1)
    off = training is None or training.scalar() is False or (ratio is not None and ratio.scalar() == 0)
    if not off:
        raise UnsupportedError("random dropout in training mode", where=where(node))
    x = inputs[0]
    assert x is not None
    copy = te.compute(x.shape, lambda *i: x(*i), name="dropout")
    if len(node.outputs) == 1:
        return copy
    return [copy, te.compute(x.shape, lambda *_: tirx.const(True, "bool"), name="mask")]


def _prelu(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The slope broadcasts to the shape of x."""
    x, slope = inputs
    assert x is not None and slope is not None

    def element(*i: Expr) -> Expr:
        value = widen(x(*i))
        scaled = value * widen(broadcast_read(slope, i))
        return tirx.Select(value < like(0, value), scaled, value).astype(dtype_of(x))

    return te.compute(shape_of(x), element, name="prelu")


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    **ACTIVATIONS,
    "Abs": _abs,
    "Acos": _unary(tirx.acos),
    "Acosh": _unary(tirx.acosh),
    "Add": lambda node, x, y: x + y,
    "And": lambda node, x, y: tirx.And(x, y),
    "Asin": _unary(tirx.asin),
    "Asinh": _unary(tirx.asinh),
    "Atan": _unary(tirx.atan),
    "Atanh": _unary(tirx.atanh),
    "BitShift": _bit_shift,
    "BitwiseAnd": lambda node, x, y: x & y,
    "BitwiseNot": lambda node, x: tirx.bitwise_not(x),
    "BitwiseOr": lambda node, x, y: x | y,
    "BitwiseXor": lambda node, x, y: x ^ y,
    "Ceil": _unary(tirx.ceil),
    "Clip": _clip,
    "Cos": _unary(tirx.cos),
    "Cosh": _unary(partial(library_function, "cosh")),
    "Div": lambda node, x, y: divide(x, y),
    "Equal": _equal,
    "Erf": _unary(error_function),
    "Exp": _unary(tirx.exp),
    "Floor": _unary(tirx.floor),
    "Greater": lambda node, x, y: signed(x) > signed(y),
    "GreaterOrEqual": lambda node, x, y: signed(x) >= signed(y),
    "Identity": lambda node, x: x,
    "IsInf": _is_inf,
    "IsNaN": _unary(tirx.isnan),
    "Less": lambda node, x, y: signed(x) < signed(y),
    "LessOrEqual": lambda node, x, y: signed(x) <= signed(y),
    "Log": _unary(tirx.log),
    "Max": _fold(maximum),
    "Mean": _mean,
    "Min": _fold(minimum),
    "Mod": _mod,
    "Mul": lambda node, x, y: x * y,
    "Neg": lambda node, x: like(0, x) - x if dtype_of(x).startswith("int") else -x,
    "Not": lambda node, x: tirx.Not(x),
    "Or": lambda node, x, y: tirx.Or(x, y),
    "Pow": _pow,
    "Reciprocal": lambda node, x: like(1, x) / x,
    "Round": _unary(round_half_even),
    "Sign": _sign,
    "Sin": _unary(tirx.sin),
    "Sinh": _unary(partial(library_function, "sinh")),
    "Sqrt": _unary(tirx.sqrt),
    "Sub": lambda node, x, y: x - y,
    "Sum": _fold(lambda a, b: a + b),
    "Tan": _unary(tirx.tan),
    "Tanh": _unary(tirx.tanh),
    "Where": lambda node, condition, x, y: tirx.Select(condition, x, y),
    "Xor": lambda node, x, y: _differ(x, y),
}
"""`f(node, element...)`: the result for one element of each operand."""

LOWERINGS: dict[str, Lowering] = {
    **{key: elementwise(key.lower(), function) for key, function in FUNCTIONS.items()},
    "BitCast": bitcast,
    "Cast": cast,
    "CastLike": cast_like,
    "Dropout": _dropout,
    "PRelu": _prelu,
}
