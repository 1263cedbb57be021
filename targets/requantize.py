"""Floats to integers of 8 or 16 bits: rounded to nearest even, moved by a zero point, cut to the range of the type.

    q = saturate(round(x) + zero_point)

`to_byte`, and `to_short` without a zero point, make an operator of our own, which TVM carries along until its vectors
are made; `lower_requantize` then writes it in what each processor has instructions for. What is out of range stays so
at every step: conversions to int32, to int16 and to bytes saturate, and so does the addition between them. Elsewhere
than on x86 and 64-bit ARM, where no conversion rounds, 1.5 * 2^23 is added: what is left of the fraction is rounded
off. Source: Hacker's Delight, 2nd edition, section 17-5; exact here, for products in front are not contracted into that
addition (`apart`).
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from graphopt.ir import DType, Node, Value
from graphopt.targets.lower.arithmetic import clamp
from graphopt.targets.lower.tensors import Expr, dtype_of
from graphopt.targets.own_operators import own_operator

TO_BYTE = "graphopt.to_byte"

ADDING = frozenset("Add AveragePool GlobalAveragePool ReduceMean ReduceSum Sub Sum".split())
MOVING = frozenset("Flatten Pack Reshape Squeeze Transpose Unpack Unsqueeze".split())

BYTES = {"int8": (-128, 127), "uint8": (0, 255)}
SHORT = {"int16": (-(1 << 15), (1 << 15) - 1)}

C_TEXT = "c:"
"""In front of a triple: in plain arithmetic, which any compiler for such a machine understands."""

LARGEST_BELOW = 2147483520.0
"""The largest float32 that is an int32."""

ROUNDER = 12582912.0
"""1.5 * 2^23: floats around it are integers, `ROUNDER_BITS` their bits less the integer."""
ROUNDER_BITS = 0x4B400000
REGISTER = 8
"""Numbers of int16 that are narrowed by one instruction; half of them are doubled first, or LLVM finds none."""

REACH = 1 << 20
"""Cut to plus or minus this before it is added; beyond any byte and zero point."""


def to_byte(x: Expr, zero: Expr | None, dtype: str) -> Expr:
    """The float32 `x`, rounded, plus the integer `zero`, saturated to int8 or uint8."""
    shift = tirx.const(0, "int16") if zero is None else zero.astype("int16")
    return Call(own_operator(TO_BYTE), [x, shift], ret_ty=dtype)


def to_short(x: Expr) -> Expr:
    """The float32 `x`, rounded and saturated to int16."""
    return Call(own_operator(TO_BYTE), [x, tirx.const(0, "int16")], ret_ty="int16")


def apart(x: Expr) -> Expr:
    """`x` as it is: a product that is not contracted with an addition behind it, and is rounded by itself."""
    return tirx.call_llvm_pure_intrin(dtype_of(x), "llvm.arithmetic.fence", x)


def is_added(node: Node) -> bool:
    """A product in float32 that is added to something, at once or when it has been moved."""
    product = node.is_op("Mul", "DequantizeLinear") and node.output.dtype is DType.float32
    return product and _is_summand(node.output)


def _is_summand(value: Value) -> bool:
    return any(
        user.op_type in ADDING or (user.op_type in MOVING and _is_summand(user.output))
        for user in value.users
    )


def lower_requantize(statement: tirx.Stmt, machine: str) -> tirx.Stmt:
    """Write out every `to_byte` and `to_short`, for the architecture that a triple begins with, or in `C_TEXT`."""
    rounded = _rounding(machine)

    def written_out(call: Call) -> Expr:
        if getattr(call.op, "name", "") != TO_BYTE:
            return call
        x, zero = call.args
        made = tvm.DataType(dtype_of(call))
        value = tirx.Var("value", x.ty)
        cut = cut_at_once if machine.startswith(C_TEXT) else narrowed
        return tirx.Let(value, x, cut(rounded(value, made.lanes), zero, made))

    return tvm_ffi.structural_map(statement, (Call, written_out))


def cut_at_once(total: Expr, zero: Expr, made: tvm.DataType) -> Expr:
    """In plain arithmetic: int32 must hold the sum, as it does where `total` is within `REACH`."""
    kind = vector("int32", made.lanes)
    return clamp(total + zero.astype(kind), *(BYTES | SHORT)[str(made.with_lanes(1))]).astype(str(made))


def narrowed(total: Expr, zero: Expr, made: tvm.DataType) -> Expr:
    """int32 to int16 and on to bytes: each step is one instruction where a processor narrows with saturation."""
    middle = clamp(total, *SHORT["int16"]).astype(vector("int16", made.lanes))
    if not _is_zero(zero):
        middle = tirx.call_llvm_pure_intrin(dtype_of(middle), "llvm.sadd.sat", middle, zero)
    kind, half = str(made.with_lanes(1)), made.lanes == REGISTER // 2
    if kind in SHORT:
        return middle
    if half:
        middle = tirx.Shuffle([middle, middle], list(range(REGISTER)))
    cut = clamp(middle, *BYTES[kind]).astype(vector(kind, REGISTER if half else made.lanes))
    return part(cut, 0, made.lanes) if half else cut


def _is_zero(zero: Expr) -> bool:
    scalar = zero.value if isinstance(zero, tirx.Broadcast) else zero
    return isinstance(scalar, tirx.IntImm) and int(scalar) == 0


def _rounding(machine: str) -> Callable[[Expr, int], Expr]:
    """How vectors of so many floats become int32."""
    if machine.startswith("aarch64"):
        return _rounded_on_aarch64
    return _rounded_on_x86 if machine.startswith("x86") else _rounded_by_addition


def _rounded_on_x86(x: Expr, lanes: int) -> Expr:
    """cvtps2dq; what is too low, it takes for the lowest integer."""
    return tirx.call_llvm_pure_intrin(
        vector("int32", lanes), "llvm.lrint", tirx.min(x, _constant(LARGEST_BELOW, x))
    )


def _rounded_on_aarch64(x: Expr, lanes: int) -> Expr:
    """fcvtns, four floats at a time where they come in fours."""
    width = 4 if lanes % 4 == 0 else 1
    kinds = ("v4i32", "v4f32") if width == 4 else ("i32", "f32")
    name = f"llvm.aarch64.neon.fcvtns.{kinds[0]}.{kinds[1]}"
    kind = vector("int32", width)
    parts = [
        tirx.call_llvm_pure_intrin(kind, name, x if lanes == width else part(x, start, width))
        for start in range(0, lanes, width)
    ]
    return parts[0] if len(parts) == 1 else tirx.Shuffle(parts, list(range(lanes)))


def part(x: Expr, start: int, width: int) -> Expr:
    return tirx.Shuffle([x], list(range(start, start + width)))


def _rounded_by_addition(x: Expr, lanes: int) -> Expr:
    kind = vector("int32", lanes)
    cut = apart(clamp(x, -REACH, REACH))
    return tirx.reinterpret(kind, cut + _constant(ROUNDER, x)) - tirx.const(ROUNDER_BITS, kind)


def vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _constant(value: float, like: Expr) -> Expr:
    return tirx.const(value, dtype_of(like))
