"""DFT and STFT against onnx.reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.targets.lower.kernels import Outputs, assert_close, case, names, run_cases

RANDOM = np.random.default_rng(2)

TOLERANCE = 2e-6
"""float32: sums of at most 32 products, each rounded to 2^-24, added in an arbitrary order."""

REAL = RANDOM.normal(size=(2, 12, 3, 1)).astype(np.float32)
COMPLEX = RANDOM.normal(size=(2, 12, 3, 2)).astype(np.float32)
SIGNAL = RANDOM.normal(size=(2, 64, 1)).astype(np.float32)
WINDOW = np.hanning(16).astype(np.float32)


CASES = [
    case("DFT", REAL, None, np.int64(1)),
    case("DFT", REAL, np.int64(9), np.int64(1), onesided=1),
    case("DFT", COMPLEX, np.int64(15), np.int64(1)),
    case("DFT", COMPLEX, None, np.int64(-2)),
    case("DFT", COMPLEX, None, np.int64(1), inverse=1),
    case("DFT", COMPLEX, np.int64(22), np.int64(1), inverse=1, onesided=1),
    case("DFT", COMPLEX, np.int64(15), np.int64(1), inverse=1, onesided=1),
    case("STFT", SIGNAL, np.int64(8), None, np.int64(16)),
    case("STFT", SIGNAL, np.int64(5), WINDOW),
    case("STFT", SIGNAL, np.int64(8), WINDOW, np.int64(16), onesided=0),
    case("DFT", REAL.astype(np.float64), None, np.int64(1)),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_close(results[number], CASES[number], TOLERANCE)
