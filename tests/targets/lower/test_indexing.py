"""Kernels that read or write where data says: gathering and scattering."""

from __future__ import annotations

import numpy as np
import pytest

from tests.targets.lower.data import data, indices
from tests.targets.lower.kernels import Outputs, assert_same, case, names, run_cases

HALF, BYTE, LONG, BOOL, INT = np.float16, np.int8, np.int64, np.bool_, np.int32

GATHERS = [
    case("Gather", data(7, 5), indices(7, 3, 2)),
    case("Gather", data(7, 5, 9, dtype=HALF), indices(5, 4, dtype=INT), axis=1),
    case("Gather", data(7, 5, dtype=BYTE), np.int64(-2), axis=-1),
    case("Gather", data(700, 64), indices(700, 30, 20)),
    case("Gather", data(3, 4), np.zeros((0, 2), LONG)),
    case("GatherElements", data(5, 6), indices(5, 3, 6)),
    case("GatherElements", data(5, 6, dtype=BOOL), indices(6, 4, 9), axis=-1),
    case("GatherElements", data(100, 3, dtype=HALF), indices(100, 70, 2)),
    case("GatherND", data(3, 4, 5), indices(3, 2, 2)),
    case("GatherND", data(3, 4, 5, dtype=BYTE), indices(4, 3, 2, 1), batch_dims=1),
    case("GatherND", data(3, 4, 5, dtype=LONG), indices(3, 6, 3)),
    case("TensorScatter", data(2, 3, 8, 4), data(2, 3, 2, 4), np.array([3, 6])),
    case("TensorScatter", data(2, 3, 8, 4), data(2, 3, 4, 4), np.array([3, 6]), mode="circular"),
    case("TensorScatter", data(2, 8, 4), data(2, 3, 4), axis=1),
]

SCATTERS = [
    scatter
    for reduction in ("none", "add", "mul", "max", "min")
    for scatter in (
        case("ScatterElements", data(9), indices(9, 5), data(5), reduction=reduction),
        case("ScatterElements", data(5, 6), indices(5, 3, 4), data(3, 4), axis=0, reduction=reduction),
        case(
            "ScatterElements",
            data(5, 6, 20, dtype=LONG),
            indices(6, 3, 4, 19),
            data(3, 4, 19, dtype=LONG),
            axis=-2,
            reduction=reduction,
        ),
        case("ScatterND", data(5, 6, 40), indices(5, 7, 1), data(7, 6, 40), reduction=reduction),
        case("ScatterND", data(5, 6), indices(5, 3, 3, 2), data(3, 3), reduction=reduction),
    )
]

CASES = [
    *GATHERS,
    *SCATTERS,
    case("ScatterElements", data(64, 700), indices(700, 64, 600), data(64, 600), axis=1),
    case("ScatterElements", data(64, 700), indices(64, 64, 600), data(64, 600), reduction="max"),
    case("ScatterElements", data(4, 5, dtype=BOOL), indices(5, 4, 3), data(4, 3, dtype=BOOL), axis=1),
    case("ScatterElements", data(4, 5), np.zeros((0, 3), LONG), data(0, 3)),
    case("ScatterND", data(3, 40000, dtype=BYTE), indices(3, 4, 1), data(4, 40000, dtype=BYTE)),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_indexes_as_the_reference_does(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


def test_an_index_out_of_bounds_stays_inside_the_tensor() -> None:
    wild = np.array([100, -100, 1])
    table = data(3, 5)
    (gathered,), (scattered,) = run_cases(
        [
            case("Gather", table, wild, expected=[table]),
            case("ScatterND", np.zeros((3, 5), np.float32), wild[:, None], table, expected=[table]),
        ]
    )
    np.testing.assert_array_equal(gathered, table[[2, 0, 1]])
    np.testing.assert_array_equal(scattered, table[[1, 2, 0]])
