"""GridSample and AffineGrid against onnx.reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.targets.lower.kernels import Case, Outputs, assert_close, assert_same, case, names, run_cases

RANDOM = np.random.default_rng(3)

TOLERANCE = 4e-6
"""float32: a place of up to 10 elements is rounded to 2^-24 of itself, which moves a value between neighbours that
differ by up to two scales; and 16 products are added."""

X = RANDOM.normal(size=(2, 2, 5, 4)).astype(np.float32)
VOLUME = RANDOM.normal(size=(1, 2, 3, 4, 2)).astype(np.float32)
GRID = RANDOM.uniform(-1.9, 1.9, (2, 3, 4, 2)).astype(np.float32)
SOLID = RANDOM.uniform(-1.5, 1.5, (1, 2, 2, 3, 3)).astype(np.float32)
FAR = np.asarray([[[[-1e9, 0.0], [0.25, 1e9]]]], np.float32)
THETA = RANDOM.normal(size=(2, 2, 3)).astype(np.float32)
SOLID_THETA = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)

PADDINGS = ("zeros", "border", "reflection")


def sample(x: np.ndarray, grid: np.ndarray, mode: str, padding: str, align: int) -> Case:
    return case("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=align)


NEAREST = [sample(X, GRID, "nearest", p, a) for p, a in product(PADDINGS, (0, 1))] + [
    sample(X[:1], FAR, "nearest", "zeros", 0),
    sample(VOLUME, SOLID, "nearest", "border", 0),
]

WEIGHTED = [
    *(sample(X, GRID, m, p, a) for m, p, a in product(("linear", "cubic"), PADDINGS, (0, 1))),
    *(sample(VOLUME, SOLID, "linear", p, 0) for p in PADDINGS),
    sample(X[:1], FAR, "linear", "zeros", 1),
    sample(X[:1], FAR, "linear", "border", 1),
    sample(X[:, :, :1], GRID, "linear", "reflection", 0),
    case("AffineGrid", THETA, [2, 3, 5, 6]),
    case("AffineGrid", THETA, [2, 3, 5, 6], align_corners=1),
    case("AffineGrid", SOLID_THETA, [2, 3, 4, 5, 6], align_corners=1),
]

CASES = [*NEAREST, *WEIGHTED]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(NEAREST)), ids=names(NEAREST))
def test_nearest(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], NEAREST[number])


@pytest.mark.parametrize("number", range(len(WEIGHTED)), ids=names(WEIGHTED))
def test_weighted(number: int, results: list[Outputs]) -> None:
    assert_close(results[len(NEAREST) + number], WEIGHTED[number], TOLERANCE)
