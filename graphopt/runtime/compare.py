"""Comparing two sets of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import VerificationError

SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class OutputError:
    """One output: the largest absolute difference, and it over the largest magnitude expected.

    `reason` says why the two cannot be compared at all; the errors are infinite then.
    """

    name: str
    absolute: float
    relative: float
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All outputs."""

    outputs: tuple[OutputError, ...]

    @property
    def worst(self) -> float:
        return max((output.relative for output in self.outputs), default=0.0)

    def merge(self, other: Comparison) -> Comparison:
        """The worse of both, output by output."""
        pairs = zip(self.outputs, other.outputs, strict=True)
        return Comparison(tuple(max(pair, key=lambda o: o.relative) for pair in pairs))

    def raise_if_worse_than(self, tolerance: float) -> None:
        """Raise VerificationError naming the worst output when its relative error exceeds `tolerance`."""
        for output in self.outputs:
            if not output.relative <= tolerance:
                detail = output.reason or f"error {output.relative:.3g} of its scale, above {tolerance:g}"
                raise VerificationError(detail, where=f"output '{output.name}'")


def compare_outputs(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> Comparison:
    """Compare by name. NaN equals NaN and an infinity its like; integers and booleans count as numbers."""
    return Comparison(tuple(compare_arrays(name, want, got.get(name)) for name, want in expected.items()))


def compare_arrays(name: str, want: np.ndarray, got: np.ndarray | None) -> OutputError:
    infinite = float("inf")
    if got is None:
        return OutputError(name, infinite, infinite, "it is missing")
    if got.shape != want.shape or got.dtype != want.dtype:
        reason = f"it is {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
        return OutputError(name, infinite, infinite, reason)
    if want.dtype.kind in "OUS":
        same = bool(np.array_equal(want, got))
        return OutputError(name, 0.0, 0.0) if same else OutputError(name, infinite, infinite, "texts differ")
    a, b = want.astype(np.float64), got.astype(np.float64)
    special = ~np.isfinite(a) | ~np.isfinite(b)
    if not np.array_equal(a[special], b[special], equal_nan=True):
        return OutputError(name, infinite, infinite, "NaN or infinity in different places")
    a, b = a[~special], b[~special]
    absolute = float(np.abs(a - b).max(initial=0.0))
    return OutputError(name, absolute, absolute / max(float(np.abs(a).max(initial=0.0)), SMALLEST_SCALE))
