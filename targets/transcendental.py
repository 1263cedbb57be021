"""exp, sigmoid, tanh, erf and the normal distribution of float32 as polynomials that run in vector lanes.

LLVM calls libm once per lane for them. Here each call becomes a few multiplications:

    exp(x)  = 2^n * exp(r)                          n = round(x / ln 2), r = x - n ln 2, |r| <= ln(2) / 2
    sigmoid(x) = 1 / (1 + exp(-x))
    tanh(x) = x (1 + x^2 P(x^2))                    |x| < 0.625
            = sign(x) (1 - 2 / (exp(2 |x|) + 1))    otherwise
    erf(x)  = x + x Q(x^2)                          |x| < 475 / 512
            = sign(x) (1 - exp(-|x| + |x| S(|x|)))  otherwise
    Phi(x)  = 1/2 + t P(t^2) / Q(t^2)               t = x, no further from 0 than 6

ln 2 is subtracted in two parts (Cody and Waite), of which the first product is exact. 2^n is multiplied in as two
powers of two, each a bit pattern: the result rounds once into the denormals, and overflows to infinity by itself.
Within a sigmoid it does neither: |x| counts as 87.25 at most, so that 2^n is added to the exponent, and a sigmoid is
never below 2^-126.
A `coarse_sigmoid` is for what is rounded to a byte behind it. It takes 2^n and a polynomial of five terms for 2^r, both
of x / ln 2 rounded once: it is off by 6 + 1.5 |x| times 2^-24 of itself at most, and does not keep NaN.
The polynomials of exp and tanh are those of S. Moshier's Cephes library, `expf.c` and `tanhf.c`; those of erf are
N. Juffa's minimax approximations. All results are within 2 units in the last place of the true ones, but the sigmoid,
which rounds twice more; NaN stays NaN.

Phi(x), the share of a normal distribution below x, is what Gelu multiplies x with: its error is absolute, 2.2e-7, and
it is exactly 0 and 1 at the ends. P and Q are a minimax fit on [0, 5.3]; beyond, the quotient grows past 1/2 and is
cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Op

from graphopt.targets.lower.tensors import Expr, dtype_of
from graphopt.targets.own_operators import own_operator

NORMAL = "graphopt.normal_distribution"
COARSE_SIGMOID = "graphopt.coarse_sigmoid"

EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""(exp(r) - 1 - r) / r^2, highest power first."""

POWER_OF_TWO = (1.32647273e-3, 9.67151299e-3, 5.55073358e-2, 2.40222424e-1, 6.93147004e-1, 1.0)
"""2^r for |r| <= 1/2, highest power first: a minimax fit, off by 9.2e-8 of itself."""

TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
"""(tanh(x) - x) / x^3 in powers of x^2, highest first."""

ERF_NEAR = (
    -5.96761703e-4,
    4.99119423e-3,
    -2.67681349e-2,
    1.12819925e-1,
    -3.76125336e-1,
    1.28379166e-1,
)
"""erf(x) / x - 1 in powers of x^2, highest first."""

ERF_FAR = (
    -1.72853470e-5,
    3.83197126e-4,
    -3.88396438e-3,
    2.42546219e-2,
    -1.06777877e-1,
    -6.34846687e-1,
    -1.28717512e-1,
)
"""log(1 - erf(x)) / x + 1 for positive x, highest power first."""

ERF_NEAR_BELOW = 475 / 512

NORMAL_ABOVE = (2.40503351e-8, 6.37906896e-6, 1.60334559e-4, 4.6279938e-3, 3.29357795e-2, 3.98942262e-1)
NORMAL_BELOW = (1.23716995e-6, 7.13523841e-5, 1.83657173e-3, 2.81388238e-2, 2.49223992e-1, 1.0)
"""Numerator and denominator of (Phi(x) - 1/2) / x in powers of x^2, highest first."""

NORMAL_END = 6.0

LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
LOG2_E = 1.44269504088896341

LOWEST, HIGHEST = -104.0, 89.0
"""exp rounds to zero below, and to infinity above."""

LOWEST_NORMAL = -87.33654
"""The exponential of what lies below is less than 2^-126."""

LARGEST_POWER = 126.0
"""2^n is a normal number, as is its inverse."""

STEEPEST = 87.25
"""A sigmoid counts no more than so much: exp of it and of its negative are normal numbers."""

ROUNDER = 1.5 * 2.0**23
"""Added to a small number, it leaves the nearest integer in the low bits of the sum."""

ROUNDER_BITS = 0x4B400000

TANH_NEAR_BELOW = 0.625
MANTISSA_BITS, EXPONENT_BIAS = 23, 127


def approximate(statement: tirx.Stmt) -> tirx.Stmt:
    """Replace every function in FORMS of a float32, scalar or vector, by its approximation.

    Intermediate results are stored before the statement; LLVM keeps them in registers. TVM's code generator puts the
    value of a `Let` wherever its variable is read when it looks for bounds, which takes minutes for an exponential of
    an exponential. Only what is computed under a condition has them in `Let`.
    """
    return tvm_ffi.structural_map(statement, ((tirx.BufferStore, tirx.Bind), _approximate_in))


def _approximate_in(statement: tirx.BufferStore | tirx.Bind) -> tirx.Stmt:
    if _is_conditional(statement.value):
        return tvm_ffi.structural_map(statement, (Call, lambda call: _replaced(call, _Terms())))
    stores: list[tirx.Stmt] = []
    changed = tvm_ffi.structural_map(statement, (Call, lambda call: _replaced(call, _Stores(stores))))
    return tirx.SeqStmt([*stores, changed]) if stores else changed


def _is_conditional(value: Expr) -> bool:
    """Some part is computed under a condition, or with a name that is known there only."""
    found = []

    def look(part: Call | tirx.Let) -> Expr:
        if isinstance(part, tirx.Let) or getattr(part.op, "name", "") == "tirx.if_then_else":
            found.append(part)
        return part

    tvm_ffi.structural_map(value, ((Call, tirx.Let), look))
    return bool(found)


def _replaced(call: Call, terms: Terms) -> Expr:
    form = FORMS.get(getattr(call.op, "name", ""))
    return call if form is None or not _is_float32(call) else form(terms, call.args[0])


def vectorise() -> None:
    """Let TVM turn loops over `tirx.erf` and `tirx.isnan` into vectors, as it does with the other functions."""
    for operator in (Op.get("tirx.erf"), Op.get("tirx.isnan")):
        if not operator.get_attr("TVectorizable"):
            operator.set_attr("TVectorizable", True)


def normal_distribution(x: Expr) -> Expr:
    """A call of Phi on a float32, one dear function to schedules."""
    return Call(own_operator(NORMAL), [x], ret_ty="float32")


def coarse_sigmoid(x: Expr) -> Expr:
    """A call of the sigmoid on a float32, for what is rounded to a byte."""
    return Call(own_operator(COARSE_SIGMOID), [x], ret_ty="float32")


def exponential(terms: Terms, x: Expr) -> Expr:
    return terms.close(_exponential(terms, x))


def decaying_exponential(x: Expr) -> Expr:
    """exp of an x that is not positive; zero below 2^-126."""
    terms = _Terms()
    x = terms.name(x)
    scaled = _normal_exponential(terms, x)
    return terms.close(tirx.Select(x < _constant(LOWEST_NORMAL, x), _constant(0.0, x), scaled))


def logistic(terms: Terms, x: Expr) -> Expr:
    x = terms.name(_between(terms, -STEEPEST, terms.name(x), STEEPEST))
    return terms.close(1.0 / (_normal_exponential(terms, -x) + 1.0))


def coarse_logistic(terms: Terms, x: Expr) -> Expr:
    power = terms.name(x * _constant(-LOG2_E, x))
    limit = _constant(LARGEST_POWER, x)
    power = terms.name(tirx.max(tirx.min(power, limit), -limit))
    shifted = terms.name(power + ROUNDER)
    r = terms.name(power - (shifted - ROUNDER))
    return terms.close(1.0 / (_times_power_of_two(terms, _polynomial(r, POWER_OF_TWO), shifted) + 1.0))


def share_below(terms: Terms, x: Expr) -> Expr:
    """Phi(x)."""
    x = terms.name(_between(terms, -NORMAL_END, terms.name(x), NORMAL_END))
    square = terms.name(x * x)
    quotient = x * _polynomial(square, NORMAL_ABOVE) / _polynomial(square, NORMAL_BELOW)
    return terms.close(_between(terms, -0.5, terms.name(quotient), 0.5) + _constant(0.5, x))


def hyperbolic_tangent(terms: Terms, x: Expr) -> Expr:
    x = terms.name(x)
    negative = x < _constant(0.0, x)
    size = terms.name(tirx.Select(negative, -x, x))
    square = terms.name(x * x)
    near = x * (square * _polynomial(square, TANH) + 1.0)
    far = terms.name(1.0 - 2.0 / (_exponential(terms, size * 2.0) + 1.0))
    is_near = tirx.Not(size >= _constant(TANH_NEAR_BELOW, x))  # NaN too
    return terms.close(tirx.Select(is_near, near, tirx.Select(negative, -far, far)))


def error_function(terms: Terms, x: Expr) -> Expr:
    x = terms.name(x)
    negative = x < _constant(0.0, x)
    size = terms.name(tirx.Select(negative, -x, x))
    near = x * _polynomial(terms.name(x * x), ERF_NEAR) + x
    far = terms.name(1.0 - _exponential(terms, _polynomial(size, ERF_FAR) * size - size))
    is_near = tirx.Not(size >= _constant(ERF_NEAR_BELOW, x))  # NaN too
    return terms.close(tirx.Select(is_near, near, tirx.Select(negative, -far, far)))


class Terms(Protocol):
    """Intermediate results by name, so that each is computed once however often it is read."""

    def name(self, value: Expr) -> Expr:
        """What stands for `value` from now on."""

    def close(self, result: Expr) -> Expr:
        """`result`, which is made of names, where they are known."""


class _Terms:
    """Names within an expression."""

    def __init__(self) -> None:
        self._bindings: list[tuple[tirx.Var, Expr]] = []

    def name(self, value: Expr) -> tirx.Var:
        variable = tirx.Var("term", dtype_of(value))
        self._bindings.append((variable, value))
        return variable

    def close(self, result: Expr) -> Expr:
        for variable, value in reversed(self._bindings):
            result = tirx.Let(variable, value, result)
        return result


class _Stores:
    """Names for what `stores`, statements that run before, leave in buffers of one element or vector each."""

    def __init__(self, stores: list[tirx.Stmt]) -> None:
        self._stores = stores

    def name(self, value: Expr) -> Expr:
        element, _, lanes = dtype_of(value).partition("x")
        buffer = tirx.decl_buffer((int(lanes or 1),), element, "term", scope="local")
        index = tirx.Ramp(0, 1, int(lanes)) if lanes else tirx.const(0, "int32")
        self._stores += [tirx.AllocBuffer(buffer), tirx.BufferStore(buffer, value, [index])]
        return tirx.BufferLoad(buffer, [index])

    def close(self, result: Expr) -> Expr:
        return result


def _exponential(terms: Terms, x: Expr) -> Expr:
    x = terms.name(_between(terms, LOWEST, terms.name(x), HIGHEST))
    shifted, r = _reduced(terms, x)
    value = terms.name(_polynomial(r, (*EXP, 1.0, 1.0)))
    exponent = terms.name(_bits(shifted) - ROUNDER_BITS)
    half = terms.name(exponent >> 1)
    return value * _power_of_two(half, x) * _power_of_two(exponent - half, x)


def _normal_exponential(terms: Terms, x: Expr) -> Expr:
    """exp where it is a normal number: 2^n is added to the exponent."""
    shifted, r = _reduced(terms, x)
    return _times_power_of_two(terms, _polynomial(r, (*EXP, 1.0, 1.0)), shifted)


def _times_power_of_two(terms: Terms, value: Expr, shifted: Expr) -> Expr:
    """`value` times 2^n, a normal number, with n in the low bits of `shifted`."""
    exponent = _bits(shifted) << MANTISSA_BITS
    return tirx.reinterpret(dtype_of(value), _bits(terms.name(value)) + exponent)


def _between(terms: Terms, low: float, x: Expr, high: float) -> Expr:
    """The nearest number that is neither below `low` nor above `high`. Comparisons with NaN are false: it stays."""
    bounded = terms.name(tirx.Select(x > _constant(high, x), _constant(high, x), x))
    return tirx.Select(bounded < _constant(low, x), _constant(low, x), bounded)


def _reduced(terms: Terms, x: Expr) -> tuple[Expr, Expr]:
    """n = round(x / ln 2) in the low bits of a large number, and x - n ln 2."""
    shifted = terms.name(x * LOG2_E + ROUNDER)
    n = terms.name(shifted - ROUNDER)
    return shifted, terms.name((x - n * LN2_HIGH) - n * LN2_LOW)


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """By Horner's rule."""
    result: Expr = _constant(coefficients[0], x)
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def _power_of_two(exponent: Expr, like: Expr) -> Expr:
    return tirx.reinterpret(dtype_of(like), (exponent + EXPONENT_BIAS) << MANTISSA_BITS)


def _bits(x: Expr) -> Expr:
    return tirx.reinterpret(dtype_of(x).replace("float", "int"), x)


def _constant(value: float, like: Expr) -> Expr:
    """A number in the type and with the lanes of `like`."""
    element, _, lanes = dtype_of(like).partition("x")
    number = tirx.const(value, element)
    return tirx.Broadcast(number, int(lanes)) if lanes else number


def _is_float32(x: Expr) -> bool:
    return dtype_of(x).partition("x")[0] == "float32"


FORMS = {
    COARSE_SIGMOID: coarse_logistic,
    NORMAL: share_below,
    "tirx.erf": error_function,
    "tirx.exp": exponential,
    "tirx.sigmoid": logistic,
    "tirx.tanh": hyperbolic_tangent,
}
