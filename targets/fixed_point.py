"""Requantisation in fixed point in each processor's own steps; `graphopt/runtime/fixed_point.py` has the definition.

`high_product` and `narrow` are operators of our own, which TVM carries along until its vectors are made;
`lower_fixed_point` then writes them in what each processor has instructions for:

    NEON            sqrdmulh of half the multiplier, which is even; its doubling saturates for -2^31 squared alone
    Helium          vrmulh
    Cortex-M0+      four products of 16 bits: it has none of 64
    C text          functions, which have the instructions in them where the core has such
    anything else   a product of 64 bits: smmulr on Cortex-M4 and its like, with a zero point smmlar; mulh on RISC-V
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from graphopt.targets.device import HELIUM
from graphopt.targets.lower.arithmetic import clamp
from graphopt.targets.lower.tensors import Expr, dtype_of
from graphopt.targets.own_operators import own_operator
from graphopt.targets.requantize import BYTES, C_TEXT, narrowed, part, vector

HIGH_PRODUCT = "graphopt.high_product"
NARROW = "graphopt.narrow"

QUAD = 4
"""Numbers of int32 in a vector register of Arm."""

SATURATING = ("thumbv7", "thumbv8m.main", HELIUM)
"""Cores with instructions that cut a number to so many bits."""

SMALLEST = "thumbv6m"
"""Cores whose products have 32 bits."""

SIXTEEN = 16
LOWER = (1 << SIXTEEN) - 1


def high_product(x: Expr, multiplier: Expr) -> Expr:
    """(x multiplier + 2^31) >> 32 of int32; the multiplier is even and not negative."""
    return Call(own_operator(HIGH_PRODUCT), [x, multiplier], ret_ty="int32")


def shifted_left(x: Expr, shift: Expr, *, saturate: bool) -> Expr:
    """x 2^shift; with `saturate` numbers that would not fit become ones of their sign beyond any byte."""
    if saturate:
        low, high = (tirx.shift_right(bound("int32"), shift) for bound in (tirx.min_value, tirx.max_value))
        x = tirx.max(tirx.min(x, high), low)
    return tirx.shift_left(x, shift)


def narrow(x: Expr, zero_point: int, low: int, high: int, dtype: str) -> Expr:
    """The int32 `x`, which is below 2^30, plus the zero point, cut to [low, high] within int8 or uint8."""
    made = Call(own_operator(NARROW), [x, tirx.const(zero_point, "int16")], ret_ty=dtype)
    return made if (low, high) == BYTES[dtype] else clamp(made, low, high)


def lower_fixed_point(statement: tirx.Stmt, machine: str) -> tirx.Stmt:
    """Write out every `high_product` and `narrow`, for the architecture that a triple begins with, or in `C_TEXT`."""
    multiplied = _multiplying(machine)
    without_long_products = machine.removeprefix(C_TEXT).startswith(SMALLEST)

    def written_out(call: Call) -> Expr:
        name = getattr(call.op, "name", "")
        if name not in (HIGH_PRODUCT, NARROW):
            return call
        made = tvm.DataType(dtype_of(call))
        if machine.startswith(C_TEXT) and (name == NARROW or not without_long_products):
            x, other = call.args
            return _in_c(name, x, other, made)
        if name == HIGH_PRODUCT:
            return _named(call.args, lambda x, m: multiplied(x, m, made.lanes))
        return _named(call.args, lambda x, zero: _cut(x, zero, made, machine))

    return tvm_ffi.structural_map(statement, (Call, written_out))


def _in_c(name: str, x: Expr, other: Expr, made: tvm.DataType) -> Expr:
    """Functions of `firmware/c_fixed_point.py`. A zero point behind a product is added by its instruction."""
    kind = vector("int32", made.lanes)
    if name == HIGH_PRODUCT:
        return tirx.call_pure_extern(kind, "high_product", x, other)
    zero = other.astype(kind)
    if isinstance(x, Call) and x.op.name == "tirx.call_pure_extern" and x.args[0].value == "high_product":
        moved = tirx.call_pure_extern(kind, "high_product_plus", *x.args[1:], zero)
    else:
        moved = x + zero
    cut = tirx.call_pure_extern(kind, f"narrow_{made.with_lanes(1)}", moved)
    return cut.astype(str(made))


def _named(operands: list[Expr], body: Callable[..., Expr]) -> Expr:
    """`body` of variables that stand for the operands, which may be long and are read more than once."""
    names = [tirx.Var(f"operand{n}", operand.ty) for n, operand in enumerate(operands)]
    result = body(*names)
    for name, operand in reversed(list(zip(names, operands, strict=True))):
        result = tirx.Let(name, operand, result)
    return result


def _cut(x: Expr, zero: Expr, made: tvm.DataType, machine: str) -> Expr:
    if made.lanes > 1 and not machine.startswith(HELIUM):
        return narrowed(x, zero, made)
    kind, moved = str(made.with_lanes(1)), x + zero.astype(vector("int32", made.lanes))
    if made.lanes == 1 and machine.startswith(SATURATING):  # LLVM finds it where no zero point is added
        name = "llvm.arm.ssat" if kind == "int8" else "llvm.arm.usat"
        return tirx.call_llvm_pure_intrin("int32", name, moved, tirx.const(8, "int32")).astype(kind)
    return clamp(moved, *BYTES[kind]).astype(str(made))


def _multiplying(machine: str) -> Callable[[Expr, Expr, int], Expr]:
    """How vectors of so many int32 are multiplied."""
    if machine.startswith("aarch64"):
        return partial(_by_quads, partial(_doubled, "llvm.aarch64.neon.sqrdmulh"))
    if machine.startswith("armv7"):
        return partial(_by_quads, partial(_doubled, "llvm.arm.neon.vqrdmulh"))
    if machine.startswith(HELIUM):
        return partial(_by_quads, _on_helium)
    return _by_halves if machine.removeprefix(C_TEXT).startswith(SMALLEST) else _wide


def _wide(x: Expr, multiplier: Expr, lanes: int) -> Expr:
    kind = vector("int64", lanes)
    product = x.astype(kind) * multiplier.astype(kind) + tirx.const(1 << 31, kind)
    return tirx.shift_right(product, tirx.const(32, kind)).astype(vector("int32", lanes))


def _by_quads(instruction: Callable[[Expr, Expr], Expr], x: Expr, multiplier: Expr, lanes: int) -> Expr:
    if lanes % QUAD:
        return _wide(x, multiplier, lanes)
    if lanes == QUAD:
        return instruction(x, multiplier)
    parts = [
        instruction(part(x, start, QUAD), part(multiplier, start, QUAD)) for start in range(0, lanes, QUAD)
    ]
    return tirx.Shuffle(parts, list(range(lanes)))


def _doubled(name: str, x: Expr, multiplier: Expr) -> Expr:
    kind = vector("int32", QUAD)
    half = tirx.shift_right(multiplier, tirx.const(1, kind))
    return tirx.call_llvm_pure_intrin(kind, f"{name}.v4i32", x, half)


def _on_helium(x: Expr, multiplier: Expr) -> Expr:
    is_unsigned = tirx.const(0, "int32")
    kind = vector("int32", QUAD)
    return tirx.call_llvm_pure_intrin(kind, "llvm.arm.mve.vrmulh.v4i32", x, multiplier, is_unsigned)


def _by_halves(x: Expr, multiplier: Expr, lanes: int) -> Expr:
    """The upper half by way of halves, unsigned but for x's upper one. Source: Hacker's Delight, 2nd edition, 8-2."""
    kind, bits = vector("int32", lanes), vector("uint32", lanes)

    def constant(value: int, dtype: str = kind) -> Expr:
        return tirx.const(value, dtype)

    def upper(value: Expr) -> Expr:
        return tirx.shift_right(value, constant(SIXTEEN))

    def lower(value: Expr) -> Expr:
        return tirx.bitwise_and(value, constant(LOWER))

    unsigned = lower(x).astype(bits) * lower(multiplier).astype(bits)
    lowest = tirx.shift_right(unsigned, constant(SIXTEEN, bits)).astype(kind)
    middle = upper(x) * lower(multiplier) + lowest
    rest = tirx.shift_right(
        (lower(x) * upper(multiplier)).astype(bits) + lower(middle).astype(bits) + constant(1 << 15, bits),
        constant(SIXTEEN, bits),
    )
    return upper(x) * upper(multiplier) + upper(middle) + rest.astype(kind)
