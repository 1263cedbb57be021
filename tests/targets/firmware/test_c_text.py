"""TensorIR printed as C: lanes, conversions, order; what is printed is compiled, run, and compared with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tvm import tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import tirx as B

from graphopt.errors import UnsupportedError
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.c_helpers import helper
from tests.targets.firmware.c_kernels import kernel, run


def test_lanes_are_stored_one_by_one(tmp_path: Path) -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        with B.serial(2) as i, B.vectorized(4) as lane:
            B.buffer_store(y, x[i * 4 + lane] * T.float32(2), [i * 4 + lane])

    x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    printed = kernel(build, (8, "float32"), (8, "float32"))
    assert printed.functions["f"].prototype == "void f(const float *p0, float *p1)"
    run(printed, tmp_path, x, y)
    np.testing.assert_array_equal(y, 2 * x)


def test_a_lane_may_read_what_an_earlier_one_stores(tmp_path: Path) -> None:
    """All lanes are computed first: a rotation in place."""

    def build(x: tirx.Var) -> None:
        with B.vectorized(4) as lane:
            B.buffer_store(x, x[(lane + 3) % 4], [lane])

    x = np.arange(4, dtype=np.int32)
    run(kernel(build, (4, "int32")), tmp_path, x)
    assert x.tolist() == [3, 0, 1, 2]


def test_narrow_arithmetic_wraps_as_it_does_in_tensorir(tmp_path: Path) -> None:
    """C would compute with an int, and shift a negative one without a meaning."""

    def build(x: tirx.Var, y: tirx.Var, z: tirx.Var) -> None:
        with B.serial(4) as i:
            B.buffer_store(y, tirx.truncdiv(x[i] + x[i], T.int8(2)), [i])
            B.buffer_store(z, tirx.shift_left(x[i].astype("int32"), tirx.const(28, "int32")), [i])

    x = np.array([100, -100, 7, -8], np.int8)
    y, z = np.zeros(4, np.int8), np.zeros(4, np.int32)
    run(kernel(build, (4, "int8"), (4, "int8"), (4, "int32")), tmp_path, x, y, z)
    assert y.tolist() == [-28, 28, 7, -8]
    np.testing.assert_array_equal(z, x.astype(np.int32) << 28)


def test_nothing_is_read_where_the_condition_does_not_hold(tmp_path: Path) -> None:
    """The lane's value is bound to a name, which may not move in front of the condition."""

    def build(x: tirx.Var, y: tirx.Var) -> None:
        with B.serial(8) as i:
            value = tirx.Var("value", "float32")
            twice = tirx.Let(value, x[i - 4], value * value)
            B.buffer_store(y, tirx.if_then_else(i >= 4, twice, T.float32(-1)), [i])

    printed = kernel(build, (4, "float32"), (8, "float32"))
    (declared,) = [line for line in printed.functions["f"].body if "p1[" in line]
    assert "?" in declared and not any("const float" in line for line in printed.functions["f"].body)
    x, y = np.arange(4, dtype=np.float32), np.zeros(8, np.float32)
    run(printed, tmp_path, x, y)
    assert y.tolist() == [-1, -1, -1, -1, 0, 1, 4, 9]


def test_all_lanes_share_a_scalar(tmp_path: Path) -> None:
    """A name that is bound in front, in the condition of a vector."""

    def build(x: tirx.Var, y: tirx.Var) -> None:
        with B.serial(2) as i:
            first = B.bind(x[i] * x[i])
            chosen = tirx.if_then_else(first > T.float32(1), x[tirx.Ramp(0, 1, 4)], tirx.Broadcast(first, 4))
            B.buffer_store(y, chosen, [tirx.Ramp(i * 4, 1, 4)])

    x, y = np.array([0.5, 2, 3, 4], np.float32), np.zeros(8, np.float32)
    run(kernel(build, (4, "float32"), (8, "float32")), tmp_path, x, y)
    assert y.tolist() == [0.25] * 4 + [0.5, 2, 3, 4]


def test_what_nobody_reads_is_not_declared() -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        first = B.bind(x[0])
        B.bind(first + first)
        B.buffer_store(y, T.float32(1), [0])

    printed = kernel(build, (1, "float32"), (1, "float32")).functions["f"]
    assert [line.strip() for line in printed.body] == ["(void)p0;", "p1[0] = 1.0f;"]


def test_words_are_read_from_bytes(tmp_path: Path) -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        words = tirx.reinterpret("int32x2", x[tirx.Ramp(0, 1, 8)])
        B.buffer_store(y, words, [tirx.Ramp(0, 1, 2)])

    x, y = np.arange(1, 9, dtype=np.int8), np.zeros(2, np.int32)
    printed = kernel(build, (8, "int8"), (2, "int32"))
    assert "load_int32" in printed.functions["f"].helpers
    run(printed, tmp_path, x, y)
    np.testing.assert_array_equal(y, x.view(np.int32))


def test_words_fall_apart_into_bytes(tmp_path: Path) -> None:
    """The low byte first, as memory has them."""

    def build(x: tirx.Var, y: tirx.Var) -> None:
        B.buffer_store(y, tirx.reinterpret("int8x8", x[tirx.Ramp(0, 1, 2)]), [tirx.Ramp(0, 1, 8)])

    x, y = np.array([0x0403_FF01, -2], np.int32), np.zeros(8, np.int8)
    run(kernel(build, (2, "int32"), (8, "int8")), tmp_path, x, y)
    np.testing.assert_array_equal(y, x.view(np.int8))


def test_functions_and_extrema(tmp_path: Path) -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        with B.serial(4) as i:
            B.buffer_store(y, tirx.max(tirx.sqrt(x[i]), T.float32(1.5)) - tirx.floor(x[i]), [i])

    x, y = np.array([0.25, 4, 9, 2.25], np.float32), np.zeros(4, np.float32)
    run(kernel(build, (4, "float32"), (4, "float32")), tmp_path, x, y)
    np.testing.assert_array_equal(y, np.maximum(np.sqrt(x), 1.5) - np.floor(x))


def test_names_are_used_once() -> None:
    """Of two loops of one name in each other, the inner has another."""

    def build(y: tirx.Var) -> None:
        with B.serial(2) as a, B.serial(3) as b:
            B.buffer_store(y, T.int32(1), [a * 3 + b])

    body = kernel(build, (6, "int32")).functions["f"].body
    loops = [line.split("int32_t ")[1].split(" =")[0] for line in body if "for (" in line]
    assert len(loops) == len(set(loops)) == 2


def test_what_c_cannot_say_is_refused() -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        wide = tirx.call_llvm_pure_intrin("int32", "llvm.bswap", x[0])
        B.buffer_store(y, wide, [0])

    with pytest.raises(UnsupportedError, match="C text has no llvm.bswap"):
        kernel(build, (1, "int32"), (1, "int32"))


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (1.0, "float32", "1.0f"),
        (-0.1, "float32", "(-0.1f)"),
        (1e-30, "float32", "1e-30f"),
        (0.1, "float64", "0.1"),
        (float("nan"), "float32", "NAN"),
        (float("-inf"), "float32", "(-INFINITY)"),
        (-(2**31), "int32", "(-2147483647 - 1)"),
        (-(2**63), "int64", "(-9223372036854775807LL - 1)"),
        (-5, "int8", "(int8_t)(-5)"),
        (2**32 - 1, "uint32", "4294967295u"),
        (1, "bool", "1"),
    ],
)
def test_literals(value: float, dtype: str, text: str) -> None:
    assert constant(value, dtype) == text


def test_every_float_comes_back() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    for value in bits.view(np.float32):
        if np.isfinite(value):
            text = constant(float(value), "float32").strip("()").rstrip("f")
            assert np.float32(float(text)) == value


def test_helpers_are_what_their_names_say() -> None:
    assert "a > b ? a : b" in helper("max_int8") and "int8_t max_int8" in helper("max_int8")
    assert "float float32_of_int32(int32_t value)" in helper("float32_of_int32")
    assert "void store_int32(void *to, int32_t value)" in helper("store_int32")
