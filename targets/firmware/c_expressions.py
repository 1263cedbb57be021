"""Lowered TensorIR expressions as C99: one lane of a vector at a time, every conversion written out.

A vector is so many scalars: what is printed is the scalar of one lane.

    ramp(i, 1, 4)      lane 2  -->  i + 2
    broadcast(x, 4)    lane 2  -->  x
    p[ramp(i, 1, 4)]   lane 2  -->  p[i + 2]

C computes with nothing narrower than an int; results of narrower types are converted back at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import Call, TensorLoad

from graphopt.errors import UnsupportedError
from graphopt.targets.firmware.c_fixed_point import fixed_point
from graphopt.targets.lower.tensors import Expr, dtype_of

C_TYPES = {
    "bool": "uint8_t",
    "float32": "float",
    "float64": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""TVM's name of a scalar type -> C's."""

ARITHMETIC: Mapping[type, str] = {
    tirx.Add: "+",
    tirx.Sub: "-",
    tirx.Mul: "*",
    tirx.Div: "/",
    tirx.Mod: "%",
    tirx.BitwiseAnd: "&",
    tirx.BitwiseOr: "|",
    tirx.BitwiseXor: "^",
    tirx.RShift: ">>",
}
COMPARISONS: Mapping[type, str] = {
    tirx.EQ: "==",
    tirx.NE: "!=",
    tirx.LT: "<",
    tirx.LE: "<=",
    tirx.GT: ">",
    tirx.GE: ">=",
    tirx.And: "&&",
    tirx.Or: "||",
}
EXTREMA: Mapping[type, str] = {tirx.Max: "max", tirx.Min: "min"}

BITWISE = {"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "shift_right": ">>"}
MATH = frozenset(
    "acos acosh asin asinh atan atan2 atanh ceil cos cosh erf exp exp2 fabs floor fmod hypot ldexp log log10 log1p "
    "log2 nearbyint pow round sin sinh sqrt tan tanh trunc".split()
)
"""Functions of math.h that TVM's operators are named for."""


def scalar_of(dtype: str) -> str:
    """`float32` of `float32x4`."""
    return str(tvm.DataType(dtype).with_lanes(1))


@dataclass
class Expressions:
    """Prints expressions of one function.

    `names` are the C names of variables; `read` prints the element of a buffer at an index. `helpers` collects what
    the text calls of `c_helpers`, `declare` puts a statement in front of the one that is being printed.
    """

    names: dict[tirx.Var, str]
    read: Callable[[tirx.Var, str, str], str]
    helpers: set[str]
    declare: Callable[[str, str, str], str]
    guarded: int = 0
    lets: dict[tirx.Var, Expr] = field(default_factory=dict)
    lanes: dict[tuple[tirx.Var, int], str] = field(default_factory=dict)

    def scalar(self, e: Expr, lane: int = 0) -> str:
        """The C text of lane `lane`, which may stand as an operand of anything."""
        if isinstance(e, tirx.Broadcast):
            return self.scalar(e.value)
        if isinstance(e, tirx.Ramp):
            return _sum(self.scalar(e.base), lane * int(e.stride))
        if isinstance(e, tirx.Shuffle):
            return self._shuffled(e, lane)
        if isinstance(e, tirx.Let):
            return self._let(e, lane)
        if isinstance(e, tirx.Var):
            return self._variable(e, lane)
        if isinstance(e, tirx.IntImm | tirx.FloatImm):
            return constant(e.value, dtype_of(e))
        if isinstance(e, TensorLoad):
            return self.read(e.source, self.place(e.source, e.indices[0], lane), scalar_of(dtype_of(e)))
        return self._operator(e, lane)

    def place(self, buffer: tirx.Var, index: Expr, lane: int) -> str:
        """Where lane `lane` of an access lies, in scalars, whether or not the buffer's elements are vectors."""
        lanes = tvm.DataType(str(buffer.ty.dtype)).lanes
        if lanes == 1:
            return self.scalar(index, lane)
        return _sum(f"({self.scalar(index, lane // lanes)} * {lanes})", lane % lanes)

    def _operator(self, e: Expr, lane: int) -> str:
        kind = scalar_of(dtype_of(e))
        symbol = ARITHMETIC.get(type(e)) or COMPARISONS.get(type(e))
        if isinstance(e, tirx.LShift):
            return _shifted(self.scalar(e.a, lane), self.scalar(e.b, lane), kind)
        if type(e) in (tirx.And, tirx.Or):
            return f"({self.scalar(e.a, lane)} {symbol} {self._lazily(e.b, lane)})"
        if symbol and type(e) is tirx.Mod and kind.startswith("float"):
            return f"{_function('fmod', kind)}({self.scalar(e.a, lane)}, {self.scalar(e.b, lane)})"
        if symbol:
            text = f"({self.scalar(e.a, lane)} {symbol} {self.scalar(e.b, lane)})"
            return _narrowed(text, kind) if type(e) in ARITHMETIC else text
        if type(e) in EXTREMA:
            return self._help(f"{EXTREMA[type(e)]}_{kind}", self.scalar(e.a, lane), self.scalar(e.b, lane))
        if isinstance(e, tirx.Not):
            return f"(!{self.scalar(e.a, lane)})"
        if isinstance(e, tirx.Select):  # both sides may be computed: TVM has made sure of that
            condition, yes, no = (self.scalar(x, lane) for x in (e.condition, e.true_value, e.false_value))
            return _narrowed(f"({condition} ? {yes} : {no})", kind)
        if isinstance(e, tirx.Cast):
            return self._converted(e, lane)
        if isinstance(e, Call):
            return self._call(e, kind, lane)
        raise UnsupportedError(f"C text has no {type(e).__name__}", where="kernel", hint="please report it")

    def _choice(self, condition: Expr, yes: Expr, no: Expr, lane: int) -> str:
        text = f"({self.scalar(condition, lane)} ? {self._lazily(yes, lane)} : {self._lazily(no, lane)})"
        return _narrowed(text, scalar_of(dtype_of(yes)))

    def _lazily(self, e: Expr, lane: int) -> str:
        """What may not be computed where a condition does not hold: nothing of it moves in front."""
        self.guarded += 1
        text = self.scalar(e, lane)
        self.guarded -= 1
        return text

    def bind(self, variable: tirx.Var, value: Expr) -> None:
        """Compute `value` in front; `variable` is its name from here on."""
        kind = C_TYPES[scalar_of(dtype_of(variable))]
        for lane in range(tvm.DataType(dtype_of(variable)).lanes):
            self.lanes[variable, lane] = self.declare(kind, variable.name, self.scalar(value, lane))

    def _variable(self, variable: tirx.Var, lane: int) -> str:
        if variable in self.names:
            return self.names[variable]
        lane = lane if tvm.DataType(dtype_of(variable)).lanes > 1 else 0
        if (variable, lane) in self.lanes:
            return self.lanes[variable, lane]
        text = self.scalar(self.lets[variable], lane)
        if self.guarded:
            return text
        kind = C_TYPES[scalar_of(dtype_of(variable))]
        self.lanes[variable, lane] = self.declare(kind, variable.name, text)
        return self.lanes[variable, lane]

    def _let(self, e: tirx.Let, lane: int) -> str:
        """Each lane of the variable is computed where it is read first."""
        self.lets[e.var] = e.value
        text = self.scalar(e.body, lane)
        for place in [place for place in self.lanes if place[0].same_as(e.var)]:
            del self.lanes[place]
        return text

    def _shuffled(self, e: tirx.Shuffle, lane: int) -> str:
        index = int(e.indices[lane])
        for vector in e.vectors:
            lanes = tvm.DataType(dtype_of(vector)).lanes
            if index < lanes:
                return self.scalar(vector, index)
            index -= lanes
        raise UnsupportedError("a shuffle reads beyond its vectors", where="kernel", hint="please report it")

    def _converted(self, e: tirx.Cast, lane: int) -> str:
        made, given = scalar_of(dtype_of(e)), scalar_of(dtype_of(e.value))
        text = self.scalar(e.value, lane)
        if made == given:
            return text
        if made == "bool":
            return f"({text} != 0)"
        return f"({C_TYPES[made]}){text}"

    def _call(self, e: Call, kind: str, lane: int) -> str:
        name = e.op.name.rpartition(".")[2]  # of tirx.exp, prim.if_then_else
        if name == "call_llvm_pure_intrin":
            return self._intrinsic(e, lane)
        if name == "call_pure_extern":
            called, passed = e.args[0].value, [self.scalar(a, lane) for a in e.args[1:]]
            own = fixed_point(called) is not None
            return self._help(called, *passed) if own else f"{called}({', '.join(passed)})"
        if name == "reinterpret":
            return self._reinterpreted(e.args[0], kind, lane)
        if name == "if_then_else":
            condition, yes, no = e.args
            return self._choice(condition, yes, no, lane)
        operands = [self.scalar(a, lane) for a in e.args]
        if name == "shift_left":
            return _shifted(operands[0], operands[1], kind)
        if name in BITWISE:
            return _narrowed(f"({operands[0]} {BITWISE[name]} {operands[1]})", kind)
        if name == "bitwise_not":
            return _narrowed(f"(~{operands[0]})", kind)
        if name == "isnan":
            return f"(isnan({operands[0]}) != 0)"
        if name == "likely":
            return operands[0]
        if name in MATH:
            return f"{_function(name, kind)}({', '.join(operands)})"
        raise UnsupportedError(f"C text has no {name}", where="kernel", hint="please report it")

    def _intrinsic(self, e: Call, lane: int) -> str:
        name = tvm.get_global_func("target.llvm_get_intrinsic_name")(int(e.args[0]))
        if name == "llvm.arithmetic.fence":
            return self.scalar(e.args[1], lane)
        raise UnsupportedError(f"C text has no {name}", where="kernel", hint="please report it")

    def _reinterpreted(self, x: Expr, kind: str, lane: int) -> str:
        """The bits of `x` as another type; where that has wider elements, so many neighbours in memory.

        Narrower elements are the parts of a word from its low end, as a little-endian memory has them.
        """
        given = scalar_of(dtype_of(x))
        bits, width = tvm.DataType(kind).bits, tvm.DataType(given).bits
        if bits == width:
            return self._help(f"{kind}_of_{given}", self.scalar(x, lane))
        if bits > width and isinstance(x, TensorLoad) and isinstance(x.indices[0], tirx.Ramp):
            start = self.place(x.source, x.indices[0], lane * (bits // width))
            return self.read(x.source, start, f"{kind}:{given}")
        if bits < width <= 32 and "int" in kind and "int" in given:
            whole, part = divmod(lane, width // bits)
            return f"(({C_TYPES[kind]})((uint32_t){self.scalar(x, whole)} >> {part * bits}))"
        raise UnsupportedError("C text cannot regroup bits", where="kernel", hint="please report it")

    def _help(self, name: str, *operands: str) -> str:
        self.helpers.add(name)
        return f"{name}({', '.join(operands)})"


def constant(value: float, dtype: str) -> str:
    """A literal of exactly this value and type."""
    if dtype == "bool":
        return str(int(value))
    if dtype.startswith("float"):
        return _float_literal(value, dtype)
    number = int(value)
    if dtype == "int64":
        return f"({number + 1}LL - 1)" if number == -(2**63) else _signed(f"{number}LL")
    if dtype == "uint64":
        return f"{number}ULL"
    if dtype == "uint32":
        return f"{number}u"
    text = f"(-{2**31 - 1} - 1)" if number == -(2**31) else _signed(str(number))
    return text if dtype == "int32" else f"({C_TYPES[dtype]}){text}"


def _float_literal(value: float, dtype: str) -> str:
    if math.isnan(value):
        return "NAN" if dtype == "float32" else "(double)NAN"
    if math.isinf(value):
        text = "INFINITY" if value > 0 else "(-INFINITY)"
        return text if dtype == "float32" else f"(double){text}"
    text = str(np.float32(value) if dtype == "float32" else np.float64(value))
    text = text if any(mark in text for mark in ".e") else f"{text}.0"
    return _signed(f"{text}f" if dtype == "float32" else text)


def _signed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _sum(text: str, offset: int) -> str:
    if text.isdecimal():
        return str(int(text) + offset)
    return text if offset == 0 else f"({text} {'-' if offset < 0 else '+'} {abs(offset)})"


def _narrowed(text: str, dtype: str) -> str:
    """C's int as the narrower type that TVM means."""
    is_narrow = dtype in ("int8", "uint8", "int16", "uint16")
    return f"({C_TYPES[dtype]}){text}" if is_narrow else text


def _shifted(text: str, bits: str, dtype: str) -> str:
    """To the left: C leaves open what becomes of a sign, and says it for what has none."""
    wide = "uint64_t" if dtype.endswith("64") else "uint32_t"
    return f"({C_TYPES[dtype]})(({wide}){text} << {bits})"


def _function(name: str, dtype: str) -> str:
    return f"{name}f" if dtype == "float32" else name
