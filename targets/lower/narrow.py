"""Elements of 8 bits or fewer: floats of 8 and 4 bits, integers of 4 and 2, each kept in one byte.

The 8-bit floats are those of Micikevicius et al., "FP8 Formats for Deep Learning" (2022), and of ONNX's
specification; rounding is to nearest, ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from graphopt.ir import DType
from graphopt.targets.lower.arithmetic import is_float, round_half_even
from graphopt.targets.lower.tensors import Expr, dtype_of, storage


@dataclass(frozen=True)
class Float:
    """sign (one bit), `exponent` bits with `bias`, `mantissa` bits.

    `largest` is the greatest finite number; `infinity` and `nan` are codes without sign, None where there
    is none; with `unsigned_zero` the code of minus zero is the only NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: float
    nan: int | None
    infinity: int | None = None
    unsigned_zero: bool = False

    @property
    def sign(self) -> int:
        return 1 << (self.exponent + self.mantissa)


FLOATS = {
    DType.float8e4m3fn: Float(4, 3, 7, 448.0, nan=0x7F),
    DType.float8e4m3fnuz: Float(4, 3, 8, 240.0, nan=0x80, unsigned_zero=True),
    DType.float8e5m2: Float(5, 2, 15, 57344.0, nan=0x7F, infinity=0x7C),
    DType.float8e5m2fnuz: Float(5, 2, 16, 57344.0, nan=0x80, unsigned_zero=True),
    DType.float4e2m1: Float(2, 1, 1, 6.0, nan=None),
}


def decode(code: Expr, dtype: DType) -> Expr:
    """The element as float32, or as int8 or uint8 for integers."""
    if dtype.is_integer:
        return _decode_integer(code, dtype)
    if dtype is DType.float8e8m0:
        return _decode_power_of_two(code)
    form = FLOATS[dtype]
    code = code.astype("int32")
    magnitude = code & (form.sign - 1)
    exponent = magnitude >> form.mantissa
    fraction = magnitude & ((1 << form.mantissa) - 1)
    # Normal: the bits moved into a float32. Subnormal: a multiple of the smallest number.
    bits = (magnitude << (23 - form.mantissa)) + ((127 - form.bias) << 23)
    normal = tirx.reinterpret("float32", bits)
    smallest = 2.0 ** (1 - form.bias - form.mantissa)
    subnormal = fraction.astype("float32") * tirx.const(smallest, "float32")
    value = tirx.Select(tirx.EQ(exponent, 0), subnormal, normal)
    nan = tirx.const(float("nan"), "float32")
    if form.infinity is not None:
        value = tirx.Select(tirx.EQ(magnitude, form.infinity), tirx.const(float("inf"), "float32"), value)
        value = tirx.Select(magnitude > form.infinity, nan, value)
    elif form.nan is not None and not form.unsigned_zero:
        value = tirx.Select(tirx.EQ(magnitude, form.nan), nan, value)
    value = tirx.Select(tirx.NE(code & form.sign, 0), -value, value)
    if form.unsigned_zero:
        value = tirx.Select(tirx.EQ(code & 0xFF, form.nan), nan, value)
    return value


def encode(x: Expr, dtype: DType, *, saturate: bool) -> Expr:
    """The code of a number, rounded to nearest even. Integers keep their low bits."""
    if dtype.is_integer:
        return _encode_integer(x, dtype)
    x = x.astype("float32")
    if dtype is DType.float8e8m0:
        return _encode_power_of_two(x, saturate=saturate)
    form = FLOATS[dtype]
    bits = tirx.reinterpret("int32", x)
    sign = tirx.Select(bits < 0, tirx.const(form.sign, "int32"), tirx.const(0, "int32"))
    magnitude = bits & 0x7FFFFFFF
    shift = 23 - form.mantissa
    rebased = magnitude - ((127 - form.bias) << 23)
    rounded = (rebased + ((1 << (shift - 1)) - 1) + ((rebased >> shift) & 1)) >> shift
    # Below the smallest normal number the codes are multiples of the smallest subnormal one.
    smallest = 2.0 ** (1 - form.bias - form.mantissa)
    scaled = tirx.reinterpret("float32", magnitude) * tirx.const(1 / smallest, "float32")
    tiny = tirx.min(scaled, tirx.const(float(2 << form.mantissa), "float32"))
    subnormal = round_half_even(tiny).astype("int32")
    code = tirx.Select(rebased < (1 << 23), subnormal, rounded)
    code = _limit(code, magnitude, form, saturate)
    if form.unsigned_zero:
        signed = tirx.Select(tirx.EQ(code, 0), code, code | sign)
        code = tirx.Select(tirx.EQ(code, form.nan), code, signed)
    else:
        code = code | sign
    return code.astype("uint8")


def _limit(code: Expr, magnitude: Expr, form: Float, saturate: bool) -> Expr:
    """What becomes of numbers out of range, infinities and NaN."""
    largest = _code_of_largest(form)
    nan = form.sign if form.nan is None else form.nan  # without a NaN: minus zero
    over = largest if saturate or form.nan is None else form.infinity or form.nan
    code = tirx.Select(code > largest, tirx.const(over, "int32"), code)
    code = tirx.Select(tirx.EQ(magnitude, 0x7F800000), tirx.const(over, "int32"), code)
    return tirx.Select(magnitude > 0x7F800000, tirx.const(nan, "int32"), code)


def _code_of_largest(form: Float) -> int:
    if form.infinity is not None:
        return form.infinity - 1
    if form.nan is not None and not form.unsigned_zero:
        return form.nan - 1
    return form.sign - 1


def _decode_power_of_two(code: Expr) -> Expr:
    """float8e8m0: 2^(code - 127); 255 is NaN and 0 the smallest power, a float32 subnormal."""
    code = code.astype("int32")
    value = tirx.reinterpret(
        "float32", tirx.Select(tirx.EQ(code, 0), tirx.const(1 << 22, "int32"), code << 23)
    )
    return tirx.Select(tirx.EQ(code, 255), tirx.const(float("nan"), "float32"), value)


def _encode_power_of_two(x: Expr, *, saturate: bool) -> Expr:
    """The next power of two upwards (ONNX's default rounding); negative numbers count by magnitude."""
    bits = tirx.reinterpret("int32", x) & 0x7FFFFFFF
    exponent = bits >> 23
    fraction = bits & 0x7FFFFF
    up = tirx.Select(tirx.EQ(exponent, 0), fraction > (1 << 22), fraction > 0)
    code = exponent + tirx.Select(up, tirx.const(1, "int32"), tirx.const(0, "int32"))
    code = tirx.Select(code > 254, tirx.const(254 if saturate else 255, "int32"), code)
    return tirx.Select(bits > 0x7F800000, tirx.const(255, "int32"), code).astype("uint8")


def _decode_integer(code: Expr, dtype: DType) -> Expr:
    """Sign-extend from the low bits: the other bits of the byte are not relied on."""
    kind = storage(dtype)
    if kind == "uint8":
        return code & tirx.const((1 << dtype.bits) - 1, "uint8")
    unused = 32 - dtype.bits
    return ((code.astype("int32") << unused) >> unused).astype("int8")


def _encode_integer(x: Expr, dtype: DType) -> Expr:
    if is_float(dtype_of(x)):
        x = x.astype("int32")
    return _decode_integer(x.astype(storage(dtype)), dtype)
