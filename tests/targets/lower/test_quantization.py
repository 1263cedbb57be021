"""Quantisation, bit for bit what onnx.reference computes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.errors import UnsupportedError
from graphopt.ir import DType
from graphopt.targets.lower.quantization import integer_range
from tests.targets.lower.kernels import Case, Outputs, assert_same, case, names, run_cases

RANDOM = np.random.default_rng(7)
X = (RANDOM.normal(size=(2, 6, 5)) * 40).astype(np.float32)
INTEGERS = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")
FLOATS = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float4e2m1")


def codes(label: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random elements of an element type, its least and greatest among them."""
    dtype = DType[label]
    if dtype.is_float:
        return (RANDOM.normal(size=shape) * 3).astype(dtype.numpy)
    low, high = integer_range(dtype)
    values = RANDOM.integers(low, high + 1, shape)
    values.flat[0], values.flat[1] = low, high
    return values.astype(dtype.numpy)


def quantizers() -> list[Case]:
    found = []
    ties = np.asarray([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, -1e9, 3e38], np.float32)
    for label in INTEGERS:
        point = codes(label, (2,))[1]
        zero = np.asarray(point)
        found.append(case("QuantizeLinear", ties, np.float32(1), zero, expected=[_quantized(ties, 1, zero)]))
        found.append(case("QuantizeLinear", X, np.float32(0.7), zero))
        found.append(case("QuantizeLinear", X, np.float32(3.1), output_dtype=DType[label].onnx_code))
    for label in FLOATS:
        code = DType[label].onnx_code
        found.append(case("QuantizeLinear", X, np.float32(0.3), output_dtype=code))
        if label != "float4e2m1":
            found.append(case("QuantizeLinear", X, np.float32(0.03), output_dtype=code, saturate=0))
    return found


def _quantized(x: np.ndarray, scale: float, zero: np.ndarray) -> np.ndarray:
    """The specification's formula in float64, which unlike the reference's int32 does not overflow."""
    low, high = integer_range(DType.of(zero.dtype))
    return np.clip(np.rint(x.astype(np.float64) / scale) + float(zero), low, high).astype(zero.dtype)


def granularities() -> list[Case]:
    """Per axis and blocked, the last block cut short; other types of x and scale."""
    scales = np.linspace(0.1, 2, 6, dtype=np.float32)
    points = codes("int8", (6,))
    blocks = np.linspace(0.1, 2, 2 * 2 * 5, dtype=np.float32).reshape(2, 2, 5)
    block_points = codes("uint8", (2, 2, 5))
    half, brain = np.float16, ml_dtypes.bfloat16
    q = codes("int8", (2, 6, 5))
    return [
        case("QuantizeLinear", X, scales, points),
        case("QuantizeLinear", X, scales[:5], points[:5], axis=-1),
        case("QuantizeLinear", X, blocks, block_points, axis=1, block_size=4),
        case("QuantizeLinear", X.astype(half), half(0.3), np.int8(3)),
        case("QuantizeLinear", X.astype(brain), np.asarray(0.3, brain), np.int8(3)),
        case("QuantizeLinear", X.astype(half), np.float32(0.3), np.int8(3)),
        case("QuantizeLinear", X, np.float32(0.3), np.int8(3), precision=DType.float16.onnx_code),
        case("QuantizeLinear", X.astype(np.int32), np.float32(0.3), np.int8(3)),
        case("DequantizeLinear", q, scales, points),
        case("DequantizeLinear", q, scales[:5], points[:5], axis=-1),
        case("DequantizeLinear", q.astype(np.uint8), blocks, block_points, axis=1, block_size=4),
        case("DequantizeLinear", q, half(0.3), np.int8(3)),
        case("DequantizeLinear", q, np.asarray([0.3], brain), np.asarray([3], np.int8)),
        case("DequantizeLinear", q, np.float32(0.3), output_dtype=DType.float16.onnx_code),
        case("DequantizeLinear", (X * 1e6).astype(np.int32), np.float32(0.3)),
    ]


def dequantizers() -> list[Case]:
    found = [case("DequantizeLinear", codes(i, (3, 7)), np.float32(0.7), codes(i, (2,))[0]) for i in INTEGERS]
    return found + [case("DequantizeLinear", codes(f, (3, 7)), np.float32(0.7)) for f in FLOATS]


def products() -> list[Case]:
    """Integer sums, and what requantises them."""
    x, w = codes("uint8", (2, 4, 6, 7)), codes("int8", (6, 4, 3, 3))
    grouped, each = codes("int8", (6, 2, 3, 3)), codes("int8", (6,))
    scales = np.linspace(0.001, 0.02, 6, dtype=np.float32)
    bias = RANDOM.integers(-500, 500, 6).astype(np.int32)
    quantised = (np.float32(0.02), np.uint8(120)), (scales, each), (np.float32(0.7), np.uint8(9))
    (x_scale, x_zero), (w_scale, w_zero), (y_scale, y_zero) = quantised
    a, b = codes("uint8", (2, 5, 8)), codes("int8", (8, 6))
    half = [np.float16(0.013), np.float16(0.02), np.float16(1.3)]
    return [
        case("ConvInteger", x, w, pads=(1, 1, 1, 1)),
        case("ConvInteger", x, w, np.uint8(120), np.int8(-3), pads=(1, 0, 2, 1), strides=(2, 1)),
        case("ConvInteger", x, grouped, np.uint8(7), group=2),
        case("QLinearConv", x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, pads=(1, 1, 1, 1)),
        case("QLinearConv", x, x_scale, x_zero, w, np.float32(0.01), np.int8(0), y_scale, np.uint8(0)),
        case(
            "QLinearMatMul", a, x_scale, x_zero, b, np.float32(0.02), np.int8(3), np.float32(0.9), np.int8(5)
        ),
        case("QLinearMatMul", a, half[0], x_zero, b, half[1], np.int8(3), half[2], np.uint8(128)),
        case("MatMulInteger", a, b, np.uint8(12), each),
    ]


def dynamic() -> list[Case]:
    arrays = (X, np.abs(X) + 2, -np.abs(X) - 2, np.zeros((3, 4), np.float32))
    return [case("DynamicQuantizeLinear", array, outputs=3) for array in arrays]


CASES = [*quantizers(), *granularities(), *dequantizers(), *products(), *dynamic()]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


def test_an_integer_scale_is_refused() -> None:
    node = case(
        "QuantizeLinear", np.zeros(3, np.int32), np.int32(2), np.int8(0), expected=[np.zeros(3, np.int8)]
    )
    with pytest.raises(UnsupportedError, match="a scale of int32"):
        run_cases([node])
