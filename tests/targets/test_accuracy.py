"""The figures of `python -m bench.accuracy` on a sample of all float32 numbers, NaN and the denormals among them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.accuracy import FUNCTIONS, errors, largest_error

UNITS = {"exp": 0.9, "sigmoid": 2.4, "tanh": 1.4, "erf": 1.0, "gelu": 2.4}
"""Units in the last place: what every 251st number shows, rounded up."""

STRIDE = 65521


@pytest.mark.parametrize("name", sorted(UNITS))
def test_no_error_is_larger_than_told(name: str) -> None:
    operands, worst, _ = largest_error(FUNCTIONS[name], STRIDE)
    assert operands == -(-(1 << 32) // STRIDE)
    assert 0.5 < worst <= UNITS[name]


def test_errors_are_told_in_units_of_the_result() -> None:
    x = np.float32([0.5, 200, -200, 0])
    right = np.float32([1.6487212, np.inf, 0, 1])
    above = np.nextafter(right, np.float32(np.inf))
    assert (errors(FUNCTIONS["exp"], x, right) <= 0.5).all()
    np.testing.assert_array_equal(errors(FUNCTIONS["exp"], x, above) > 0.5, [True, False, True, True])
    assert np.isinf(errors(FUNCTIONS["exp"], x, np.float32([np.nan] * 4))).all()
