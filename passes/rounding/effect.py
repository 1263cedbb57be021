"""What a method did to a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effect:
    """The SQNR of a layer's results in dB, before and after. The layer has the name that reports give it."""

    layer: str
    before: float
    after: float


def decibels(signal: float, noise: float) -> float:
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else float("inf")
