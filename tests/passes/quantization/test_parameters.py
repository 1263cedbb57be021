"""Scales and zero points, against the error that rounding may make and ONNX's own operators."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.passes.quantization.parameters import (
    LARGEST_SUM,
    Parameters,
    for_range,
    for_weights,
    widened_for_bias,
)
from graphopt.runtime.reference import evaluate_node
from tests.passes.helpers import Draft

BYTES = [DType.uint8, DType.int8, DType.uint16, DType.int16]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize(
    "bounds", [(-1.0, 3.0), (0.5, 2.0), (-4.0, -0.25), (0.0, 1e-30), (-1e30, 1e30), (7.0, 7.0)]
)
def test_a_range_is_covered_to_half_a_step(dtype: DType, bounds: tuple[float, float]) -> None:
    parameters = for_range(*bounds, dtype, where="value 'x'")
    x = np.linspace(*bounds, 997).astype(np.float32)
    back = parameters.dequantised(parameters.quantised(x))
    # A rounded zero point moves an asymmetric range by up to half a step; float32 adds 65535 units in the last place.
    slack = 0.5 if dtype in (DType.int8, DType.int16) else 1.0
    assert np.abs(back.astype(np.float64) - x).max() <= (slack + 0.01) * float(parameters.scale)
    assert parameters.dequantised(parameters.quantised(np.zeros(1, np.float32)))[0] == 0


@pytest.mark.parametrize("dtype", BYTES)
def test_what_is_always_zero_has_a_scale_of_one(dtype: DType) -> None:
    parameters = for_range(0.0, 0.0, dtype, where="value 'x'")
    assert parameters.scale == 1 and parameters.quantised(np.zeros(3))[0] == parameters.zero_point


def test_a_range_without_a_scale_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"value 'x': .* too small for a scale .*exclude"):
        for_range(0.0, 1e-38, DType.uint8, where="value 'x'")
    with pytest.raises(UsageError, match="value 'x': its range is 0 to nan"):
        for_range(0.0, float("nan"), DType.uint8, where="value 'x'")


def dequantised_by_onnx(parameters: Parameters, integers: np.ndarray) -> np.ndarray:
    g = Draft()
    operands = (integers, parameters.scale, parameters.zero_point)
    values = [g.graph.add_constant(data) for data in operands]
    g.op("DequantizeLinear", *values, **parameters.attributes)
    return evaluate_node(next(g.graph.nodes), operands)[0]


@pytest.mark.parametrize(("axis", "group"), [(None, 0), (0, 0), (-1, 0), (0, 3), (1, 4)])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_come_back_as_onnx_dequantises(axis: int | None, group: int, bits: int) -> None:
    weights = np.random.default_rng(1).normal(size=(7, 10)).astype(np.float32)
    dtype = DType.int8 if bits == 8 else DType.int4
    parameters = for_weights(weights, dtype, bits, axis, group=group, where="weights 'w'")
    integers = parameters.quantised(weights)
    back = parameters.dequantised(integers)
    np.testing.assert_array_equal(back, dequantised_by_onnx(parameters, integers))
    assert np.abs(integers.astype(int)).max() <= 2 ** (bits - 1)
    if bits == 8:
        assert integers.min() >= -127
        step = np.broadcast_to(parameters.dequantised(np.ones_like(integers)), weights.shape)
        assert (np.abs(back - weights) <= step * 0.501).all()


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_few_bits_lose_less_than_the_whole_range_would(bits: int) -> None:
    weights = np.random.default_rng(2).laplace(size=(5, 400)).astype(np.float32)
    parameters = for_weights(weights, DType.int4, bits, 0, where="weights 'w'")
    greatest = 2 ** (bits - 1) - 1
    scale = np.abs(weights).max(axis=1, keepdims=True) / greatest
    plain = np.rint(weights / scale) * scale
    ours = parameters.dequantised(parameters.quantised(weights))
    for row in range(5):
        assert np.square(ours - weights)[row].sum() < np.square(plain - weights)[row].sum()


def test_a_channel_of_zeros_stays_zero() -> None:
    weights = np.zeros((3, 4), np.float32)
    weights[1] = 2
    parameters = for_weights(weights, DType.int8, 8, 0, where="weights 'w'")
    assert (parameters.scale == np.float32(2 / 127)).all()
    np.testing.assert_array_equal(parameters.dequantised(parameters.quantised(weights)), weights)
    assert (for_weights(weights * 0, DType.int8, 8, 0, where="weights 'w'").scale == 1).all()


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="weights 'w': .* finite"):
        for_weights(np.array([[np.inf, 1]], np.float32), DType.int8, 8, 0, where="weights 'w'")


def test_a_bias_fits_its_units() -> None:
    """A channel with small weights and a large bias would need more than 32 bits."""
    weights = np.array([[1e-12, 0], [1, 1]], np.float32)
    bias, source = np.array([1e4, 1], np.float32), np.float32(0.01)
    parameters = for_weights(weights, DType.int8, 8, 0, where="weights 'w'")
    assert (np.abs(bias / (source * parameters.scale)) > LARGEST_SUM).any()
    widened = widened_for_bias(parameters, np.asarray(source), bias)
    assert (np.abs(bias / (source * widened.scale)) < LARGEST_SUM).all()
    assert widened.scale[1] == parameters.scale[1]
