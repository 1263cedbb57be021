"""Comparing two sets of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import VerificationError

SMALLEST_SCALE = 1e-6
"""What an output of zeros counts as, so that a tiny difference from zero is a finite error."""


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

    def raise_if_worse_than(self, tolerance: float, looser: Mapping[str, float] | None = None) -> None:
        """Raise VerificationError naming an output whose relative error exceeds `tolerance`, or its own among
        `looser`."""
        for output in self.outputs:
            allowed = (looser or {}).get(output.name, tolerance)
            if not output.relative <= allowed:
                detail = output.reason or f"error {output.relative:.3g} of its scale, above {allowed:g}"
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
    if want.dtype.kind in "iu":
        return _compare_integers(name, want, got)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = want.astype(wide), got.astype(wide)
    special = ~np.isfinite(a) | ~np.isfinite(b)
    if not np.array_equal(a[special], b[special], equal_nan=True):
        return OutputError(name, infinite, infinite, "NaN or infinity in different places")
    a, b = a[~special], b[~special]
    with np.errstate(over="ignore"):  # a difference too large to hold is infinite
        absolute = float(np.abs(a - b).max(initial=0.0))
    return _measured(name, absolute, float(np.abs(a).max(initial=0.0)))


def _compare_integers(name: str, want: np.ndarray, got: np.ndarray) -> OutputError:
    """Without rounding: float64 holds 53 bits."""
    differ = want != got
    pairs = zip(want[differ].tolist(), got[differ].tolist(), strict=True)
    scale = max((abs(int(bound)) for bound in (want.min(), want.max())), default=0) if want.size else 0
    return _measured(name, float(max((abs(a - b) for a, b in pairs), default=0)), float(scale))


def _measured(name: str, absolute: float, scale: float) -> OutputError:
    return OutputError(name, absolute, absolute / max(scale, SMALLEST_SCALE))
