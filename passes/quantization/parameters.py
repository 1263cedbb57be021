"""Scales and zero points: from a range of numbers, and from weights.

    q = clip(round(x / scale) + zero_point)        x ~ (q - zero_point) * scale

A range always includes zero, which then has an integer of its own: pads and Relu's cut stay exact. Weights are
symmetric, and leave out the least integer, so that a product of two bytes and its negative exist alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.passes.quantization.narrow_parameters import storable

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below it floats are denormal: processors flush them to zero, and a division by one overflows."""

LARGEST_SUM = float((1 << 31) - 1)

SHRUNK = np.linspace(1.0, 0.4, 61)
"""Shares of the largest weight that are tried as the range of weights with few bits."""


@dataclass(frozen=True)
class Parameters:
    """How numbers become integers of `dtype`, of which `bits` are used.

    One scale; or one for each place on `axis`; or, with a `group`, one for each so many places on `axis` and each
    place on the others.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dtype: DType
    bits: int
    axis: int | None = None
    group: int = 0

    def quantised(self, data: np.ndarray) -> np.ndarray:
        """`data` as integers, rounded to nearest."""
        scale, zero = self._along(self.scale, data.shape), self._along(self.zero_point, data.shape)
        rounded = np.rint(data.astype(np.float64) / scale) + zero.astype(np.float64)
        return np.clip(rounded, *self.limits).astype(self.dtype.numpy)

    def dequantised(self, integers: np.ndarray) -> np.ndarray:
        """What DequantizeLinear makes of them."""
        scale, zero = self._along(self.scale, integers.shape), self._along(self.zero_point, integers.shape)
        return ((integers.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer. Weights, whose zero points are zero, leave out the least."""
        return limits(self.dtype, self.bits)

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of the operators that quantise."""
        if self.axis is None:
            return {}
        return {"axis": self.axis} | ({"block_size": self.group} if self.group else {})

    def _along(self, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`numbers` as they broadcast against a tensor of `shape`."""
        if self.axis is None:
            return numbers
        axis = self.axis % len(shape)
        if self.group:
            repeated = np.repeat(numbers, self.group, axis)
            return np.take(repeated, np.arange(shape[axis]), axis)
        return numbers.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def limits(dtype: DType, bits: int | None = None) -> tuple[int, int]:
    """The least and the greatest integer of so many bits of a type."""
    bits = dtype.bits if bits is None else bits
    if dtype.label.startswith("uint"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def for_range(low: float, high: float, dtype: DType, *, where: str) -> Parameters:
    """Parameters of a value between `low` and `high`: symmetric for a signed type, else with a zero point.

    Raises UsageError for a range that no float32 scale can hold.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite([low, high]).all():
        hint = "leave samples with NaN or infinity out"
        raise UsageError(f"its range is {low:g} to {high:g}", where=where, hint=hint)
    least, greatest = limits(dtype)
    is_signed = least < 0
    scale = np.float32(max(-low, high) / greatest if is_signed else (high - low) / (greatest - least))
    if low == high:
        scale = np.float32(1.0)
    elif scale < SMALLEST_SCALE:
        raise UsageError(
            f"its range of {low:g} to {high:g} is too small for a scale in float32",
            where=where,
            hint="exclude the layers that read it",
        )
    zero = 0 if is_signed else int(np.clip(np.rint(-low / float(scale)), least, greatest))
    return Parameters(np.asarray(scale), np.asarray(zero, dtype.numpy), dtype, dtype.bits)


def check_finite(weights: np.ndarray, where: str) -> None:
    """Raise UsageError for NaN or infinity."""
    if not np.isfinite(weights).all():
        raise UsageError("it holds numbers that are not finite", where=where, hint="export the model again")


def for_weights(
    weights: np.ndarray, dtype: DType, bits: int, axis: int | None, *, group: int = 0, where: str
) -> Parameters:
    """Symmetric parameters of weights, one scale for each place on `axis`, or for each `group` of places on it.

    Few bits are spent on a part of the range, the one with the least squared error. A channel of zeros gets the
    largest scale of the others, which nobody will see. Raises UsageError for NaN or infinity.
    """
    check_finite(weights, where)
    greatest = limits(dtype, bits)[1]
    largest = _over_places(np.abs(weights.astype(np.float64)), np.max, axis, group)
    scale = (largest / greatest).astype(np.float32)
    usual = scale.max(initial=0.0)
    scale = np.where(scale < SMALLEST_SCALE, usual if usual >= SMALLEST_SCALE else np.float32(1.0), scale)
    zero = np.zeros(scale.shape, dtype.numpy)
    parameters = Parameters(storable(scale, bits), zero, dtype, bits, axis, group)
    return parameters if bits >= 8 else _with_least_error(parameters, weights)


def _with_least_error(parameters: Parameters, weights: np.ndarray) -> Parameters:
    """The share of the range, scale by scale, that loses least."""
    best, least = parameters.scale, np.full(parameters.scale.shape, np.inf)
    for share in SHRUNK:
        tried = replace(parameters, scale=storable(parameters.scale * share, parameters.bits))
        squares = np.square(weights - tried.dequantised(tried.quantised(weights)), dtype=np.float64)
        error = _over_places(squares, np.sum, parameters.axis, parameters.group)
        best, least = np.where(error < least, tried.scale, best), np.minimum(error, least)
    return replace(parameters, scale=np.maximum(best, SMALLEST_SCALE).astype(np.float32))


def _over_places(data: np.ndarray, reduce, axis: int | None, group: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """One number for all places that share a scale."""
    if axis is None:
        return np.asarray(reduce(data))
    axis %= data.ndim
    if not group:
        return reduce(data, axis=tuple(place for place in range(data.ndim) if place != axis))
    moved = np.moveaxis(data, axis, 0)
    missing = -len(moved) % group
    padded = np.concatenate([moved, np.zeros((missing, *moved.shape[1:]))])
    return np.moveaxis(reduce(padded.reshape(-1, group, *moved.shape[1:]), axis=1), 0, axis)


def widened_for_bias(weights: Parameters, source: np.ndarray, bias: np.ndarray) -> Parameters:
    """`weights` with scales so large that the bias, in units of `source` times them, fits into 32 bits.

    Nor are those units denormal.
    """
    needed = np.abs(bias.astype(np.float64)) / (LARGEST_SUM / 2) / float(source)
    needed = np.maximum(needed, 2 * SMALLEST_SCALE / float(source))
    if weights.axis is None:
        needed = needed.max(initial=0.0)
    wide = np.maximum(weights.scale, np.asarray(needed, np.float32))
    return replace(weights, scale=storable(wide, weights.bits, up=True))
