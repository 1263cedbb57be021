"""Scalar arithmetic with ONNX's meaning, on TensorIR expressions."""

from __future__ import annotations

import math

from tvm import tirx

from graphopt.targets.lower.tensors import Expr, dtype_of

LARGEST_UNROLLED_POWER = 4


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def like(value: float, expression: Expr) -> Expr:
    """A constant in the type of an expression."""
    return tirx.const(value, dtype_of(expression))


def lowest(dtype: str) -> Expr:
    """Minus infinity, or the least integer: what a maximum starts from."""
    return tirx.const(-math.inf, dtype) if is_float(dtype) else tirx.min_value(dtype)


def highest(dtype: str) -> Expr:
    """Infinity, or the greatest integer: what a minimum starts from."""
    return tirx.const(math.inf, dtype) if is_float(dtype) else tirx.max_value(dtype)


def clamp(x: Expr, low: float, high: float) -> Expr:
    return tirx.max(tirx.min(x, like(high, x)), like(low, x))


def signed(x: Expr) -> Expr:
    """An unsigned integer in a wider signed type, to compare it.

    TVM's simplifier subtracts the sides of a comparison, and refuses to where that is negative in their type.
    """
    wider = {"uint8": "int32", "uint16": "int32", "uint32": "int64"}.get(dtype_of(x))
    return x if wider is None else x.astype(wider)


def divide(x: Expr, y: Expr) -> Expr:
    """Integers truncate towards zero, as in C."""
    return x / y if is_float(dtype_of(x)) else tirx.truncdiv(x, y)


def library_function(name: str, *operands: Expr) -> Expr:
    """A function of the C library on floats, for what TVM's code generator cannot express."""
    dtype = dtype_of(operands[0])
    return tirx.call_pure_extern(dtype, name if dtype == "float64" else f"{name}f", *operands)


def fmod(x: Expr, y: Expr) -> Expr:
    """The remainder with the sign of x."""
    return library_function("fmod", x, y)


def floor_modulo(x: Expr, y: Expr) -> Expr:
    """The remainder of floats with the sign of y, a zero included."""
    zero = like(0, x)
    rest = fmod(x, y)
    crosses = tirx.Or(tirx.And(rest < zero, y > zero), tirx.And(rest > zero, y < zero))
    signed_zero = tirx.copysign(zero, y)
    return tirx.Select(tirx.EQ(rest, zero), signed_zero, tirx.Select(crosses, rest + y, rest))


def round_half_even(x: Expr) -> Expr:
    """To the nearest integer, ties to the even one."""
    return tirx.nearbyint(x)


def sigmoid(x: Expr) -> Expr:
    if dtype_of(x) == "float32":
        return tirx.sigmoid(x)
    one = like(1, x)
    return one / (one + tirx.exp(-x))


def error_function(x: Expr) -> Expr:
    return library_function("erf", x) if dtype_of(x) == "float64" else tirx.erf(x)


def power(x: Expr, y: Expr, exponent: float | None = None) -> Expr:
    """x to the power y, in the type of x; `exponent` is y where it is known.

    Integers go through float64, exact up to 2^53.
    """
    dtype = dtype_of(x)
    if exponent is not None:
        unrolled = _known_power(x, exponent)
        if unrolled is not None:
            return unrolled
    if is_float(dtype):
        return tirx.power(x, y.astype(dtype))
    return tirx.power(x.astype("float64"), y.astype("float64")).astype(dtype)


def _known_power(x: Expr, exponent: float) -> Expr | None:
    if exponent == 0.5 and is_float(dtype_of(x)):
        return tirx.sqrt(x)
    if exponent != int(exponent) or not 1 <= exponent <= LARGEST_UNROLLED_POWER:
        return None
    result = x
    for _ in range(int(exponent) - 1):
        result = result * x
    return result
