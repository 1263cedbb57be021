"""Comparing outputs: what counts as equal, how far apart two arrays are, and why they cannot be compared."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.errors import VerificationError
from graphopt.runtime.compare import SMALLEST_SCALE, compare_arrays, compare_outputs

INF, NAN = float("inf"), float("nan")


def error(want: object, got: object, dtype: object = np.float32) -> tuple[float, float, str]:
    found = compare_arrays("y", np.array(want, dtype), np.array(got, dtype))
    return found.absolute, found.relative, found.reason


def test_relative_to_the_largest_expected() -> None:
    assert error([1, -4, 2], [1, -4, 2]) == (0, 0, "")
    assert error([1, -4, 2], [1.5, -4, 2]) == (0.5, 0.125, "")
    assert error([], []) == (0, 0, "")


def test_zeros_have_a_scale() -> None:
    assert error([0, 0], [0, 0]) == (0, 0, "")
    absolute, relative, _ = error([0, 0], [0, 1e-9], np.float64)
    assert absolute == 1e-9
    assert relative == pytest.approx(1e-9 / SMALLEST_SCALE)


def test_nan_and_infinity_have_their_places() -> None:
    assert error([NAN, INF, -INF, 2], [NAN, INF, -INF, 1]) == (1, 0.5, "")
    for got in ([INF, INF, -INF, 2], [NAN, -INF, -INF, 2], [NAN, INF, 3, 2], [NAN, INF, -INF, NAN]):
        assert error([NAN, INF, -INF, 2], got) == (INF, INF, "NaN or infinity in different places")


def test_a_difference_that_overflows() -> None:
    assert error([1e308], [-1e308], np.float64)[1] == INF


def test_integers_are_exact() -> None:
    """Neighbours that float64 cannot tell apart, and the two ends of a type."""
    assert error([1 << 60], [(1 << 60) + 1], np.int64)[0] == 1
    assert error([0], [(1 << 64) - 1], np.uint64)[0] == float((1 << 64) - 1)
    assert error([-128], [127], np.int8) == (255, 255 / 128, "")
    assert error([], [], np.int32) == (0, 0, "")


def test_other_types() -> None:
    assert error([True, False], [True, True], np.bool_) == (1, 1, "")
    assert error([1 + 2j], [1 - 2j], np.complex64)[0] == 4
    assert error([1, 2], [1, 3], ml_dtypes.bfloat16) == (1, 0.5, "")
    assert error([1, -8], [1, 7], ml_dtypes.int4) == (15, 15 / 8, "")
    assert error(["a"], ["a"], object) == (0, 0, "")
    assert error(["a"], ["b"], object) == (INF, INF, "texts differ")


def test_why_they_cannot_be_compared() -> None:
    one = np.zeros((2, 3), np.float32)
    for got, reason in (
        (None, "it is missing"),
        (np.zeros((3, 2), np.float32), r"it is float32[3, 2], expected float32[2, 3]"),
        (np.zeros((2, 3), np.float64), r"it is float64[2, 3], expected float32[2, 3]"),
    ):
        assert compare_arrays("y", one, got).reason == reason
        assert compare_arrays("y", one, got).relative == INF


def test_the_worst_output_is_named() -> None:
    want = {"a": np.ones(2), "b": np.ones(2)}
    first = compare_outputs(want, {"a": np.ones(2), "b": np.array([1, 1.25])})
    second = compare_outputs(want, {"a": np.array([1, 1.5]), "b": np.ones(2)})
    assert (first.worst, second.worst) == (0.25, 0.5)
    both = first.merge(second)
    assert [output.relative for output in both.outputs] == [0.5, 0.25]
    both.raise_if_worse_than(0.5)
    with pytest.raises(VerificationError, match="output 'a': error 0.5 of its scale, above 0.1"):
        both.raise_if_worse_than(0.1)
    with pytest.raises(VerificationError, match="output 'b': it is missing"):
        compare_outputs(want, {"a": np.ones(2)}).raise_if_worse_than(1.0)
    assert compare_outputs({}, {}).worst == 0
