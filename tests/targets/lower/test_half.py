"""Sums in 16-bit floats: kept in float32, rounded once.

Operands are whole numbers, so that every sum is exact in float32; most are beyond what the 16-bit type tells apart, so
that a sum kept in it, or an output rounded twice, shows.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.ir import Attribute
from tests.targets.lower.data import RANDOM
from tests.targets.lower.kernels import Case, Outputs, assert_same, case, expected_of, names, run_cases


def half(dtype: type, op_type: str, *shapes: tuple[int, ...], **attributes: Attribute) -> Case:
    """Expects the sums in float64, rounded to `dtype` in the end."""
    operands = [RANDOM.integers(0, 16, shape).astype(np.float64) for shape in shapes]
    (want,) = expected_of(case(op_type, *operands, **attributes))
    narrow = [operand.astype(dtype) for operand in operands]
    return case(op_type, *narrow, expected=[want.astype(dtype)], **attributes)


CASES = [
    item
    for dtype in (np.float16, ml_dtypes.bfloat16)
    for item in (
        half(dtype, "Conv", (1, 8, 6, 6), (4, 8, 3, 3), (4,)),
        half(dtype, "Conv", (1, 4, 20), (4, 1, 9), group=4),
        half(dtype, "ConvTranspose", (1, 8, 6, 6), (8, 4, 3, 3), (4,), strides=(2, 2)),
        half(dtype, "MatMul", (5, 70), (70, 6)),
        half(dtype, "Gemm", (5, 70), (6, 70), (6,), transB=1),
        half(dtype, "Einsum", (5, 70), (70, 6), equation="ij,jk->ik"),
        half(dtype, "AveragePool", (1, 3, 32, 32), kernel_shape=(16, 16)),
        half(dtype, "GlobalAveragePool", (1, 3, 32, 32)),
        half(dtype, "ReduceSum", (3, 500), keepdims=0),
    )
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_sums_are_rounded_once(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])
