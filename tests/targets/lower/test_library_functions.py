"""Functions that the C library computes: sinh, cosh, the remainder of floats."""

from __future__ import annotations

import numpy as np
import pytest

from tests.targets.lower.kernels import Outputs, assert_close, case, names, run_cases

RANDOM = np.random.default_rng(5)
TYPES = (np.float16, np.float32, np.float64)
CASES = [
    made
    for dtype in TYPES
    for x in (RANDOM.normal(size=(3, 37)).astype(dtype),)
    for made in (
        case("Sinh", x),
        case("Cosh", x),
        case("Mod", x, np.full((37,), 0.75, dtype), fmod=1),
    )
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_library_function(number: int, results: list[Outputs]) -> None:
    """Both libraries are within two units of the last place, the remainder is exact."""
    item = CASES[number]
    unit = float(np.finfo(item.operands[0].dtype).eps)  # type: ignore[union-attr]
    assert_close(results[number], item, 0.0 if item.op_type == "Mod" else 4 * unit)
