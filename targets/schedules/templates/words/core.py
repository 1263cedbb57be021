"""What a core without vectors has."""

from __future__ import annotations

from tvm import tirx

from graphopt.targets.device import HELIUM, Target
from graphopt.targets.lower.tensors import Expr

DSP = ("thumbv7em", "thumbv8m.main", HELIUM)
"""Triples of cores that multiply pairs of 16 bits (smlad). Some of v8-M may be built without; they run plain C."""


def is_without_vectors(target: Target) -> bool:
    """Firmware for a core whose routines go by words; images are channels-last there."""
    return target.is_firmware and target.is_channels_last and not target.triple.startswith(HELIUM)


def has_dsp(target: Target) -> bool:
    """Its instructions take pairs of numbers of 16 bits."""
    return target.triple.startswith(DSP)


def least(a: Expr | int, b: Expr | int) -> Expr | int:
    """The smaller one; a number where both are."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.min(a, b)


def largest(a: Expr | int, b: Expr | int) -> Expr | int:
    """The larger one."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.max(a, b)
