"""Shares of integers, counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.analysis.integers import IntegerShares, integer_shares
from graphopt.ir import Value
from tests.passes.helpers import Draft, made


def dequantized(draft: Draft, x: Value, dtype: type = np.uint8) -> Value:
    scale, zero = draft.const(0.1), draft.const(3, dtype)
    return draft.op("DequantizeLinear", draft.op("QuantizeLinear", x, scale, zero), scale, zero)


def weight(draft: Draft, *shape: int) -> Value:
    """int8 with a scale for each row."""
    stored = draft.const(draft.random.integers(-127, 128, shape), np.int8)
    scales = draft.const(np.full(shape[0], 0.1))
    return draft.op("DequantizeLinear", stored, scales, axis=0)


def integers(draft: Draft) -> Value:
    x = dequantized(draft, draft.input(1, 3, 8, 8))
    x = draft.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return draft.op("Conv", x, weight(draft, 5, 3, 1, 1))


def float_input(draft: Draft) -> Value:
    return draft.op("Gemm", draft.input(2, 6), draft.op("Transpose", weight(draft, 4, 6), perm=[1, 0]))


def wide_input(draft: Draft) -> Value:
    return draft.op("MatMul", dequantized(draft, draft.input(2, 6), np.int16), weight(draft, 6, 4))


def float_weights(draft: Draft) -> Value:
    return draft.op("MatMul", dequantized(draft, draft.input(2, 6)), draft.weight(6, 4))


def computed_weights(draft: Draft) -> Value:
    """Constants at the end of a chain."""
    whole = draft.op("Concat", draft.weight(3, 4), draft.weight(3, 4), axis=0)
    return draft.op("MatMul", draft.input(2, 6), whole)


def quantised_here(draft: Draft) -> Value:
    """Floats behind QuantizeLinear are integers once they are folded."""
    return draft.op(
        "MatMul", dequantized(draft, draft.input(2, 6)), dequantized(draft, draft.weight(6, 4), np.int8)
    )


def attention(draft: Draft) -> Value:
    """No weights, both factors depend on the input."""
    a, b = (dequantized(draft, draft.input(5, 6)) for _ in range(2))
    return draft.op("MatMul", a, draft.op("Transpose", b, perm=[1, 0]))


CASES: list[tuple[Callable[[Draft], Value], IntegerShares]] = [
    (integers, IntegerShares(15, 15, 15 * 8 + 5 * 32, 15 * 16, 15 * 16)),
    (float_input, IntegerShares(24, 24, 24 * 8 + 4 * 32, 48, 0)),
    (wide_input, IntegerShares(24, 24, 24 * 8 + 6 * 32, 48, 0)),
    (float_weights, IntegerShares(24, 0, 24 * 32, 48, 0)),
    (computed_weights, IntegerShares(24, 0, 24 * 32, 48, 0)),
    (quantised_here, IntegerShares(24, 24, 24 * 8 + 32 + 8, 48, 48)),
    (attention, IntegerShares(0, 0, 0, 150, 150)),
]


@pytest.mark.parametrize(("build", "want"), CASES, ids=[build.__name__ for build, _ in CASES])
def test_counts(build: Callable[[Draft], Value], want: IntegerShares) -> None:
    assert integer_shares(made(build)) == want


@pytest.mark.parametrize("leaves", ["quantised", "float"])
def test_a_recurrence_has_inputs_and_a_state(leaves: str) -> None:
    """4 gates, 5 steps, 2 sequences; inputs of 3, a state of 7."""

    def build(draft: Draft) -> Value:
        x = dequantized(draft, draft.input(5, 2, 3))
        w, r = (draft.op("Unsqueeze", weight(draft, 28, n), draft.ints(0)) for n in (3, 7))
        y, _, _ = draft.ops("LSTM", x, w, r, outputs=3, hidden_size=7)
        y = draft.op("Squeeze", y, draft.ints(1))
        return dequantized(draft, y) if leaves == "quantised" else draft.op("Relu", y)

    shares = integer_shares(made(build))
    assert (shares.weights, shares.quantised_weights) == (28 * 10, 28 * 10)
    assert shares.macs == 5 * 2 * 28 * 10
    assert shares.integer_macs == 5 * 2 * 28 * (10 if leaves == "quantised" else 3)


def test_weights_in_common_count_once() -> None:
    def build(draft: Draft) -> Value:
        shared = draft.weight(6, 6)
        return draft.op("MatMul", draft.op("MatMul", draft.input(2, 6), shared), shared)

    shares = integer_shares(made(build))
    assert (shares.weights, shares.macs) == (36, 2 * 72)
    assert (shares.of_weights, shares.of_macs, shares.bits_a_weight) == (0.0, 0.0, 32.0)
