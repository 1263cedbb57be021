"""How the taps of a depthwise convolution of integers are multiplied, from what a processor has and what they are."""

from __future__ import annotations

import numpy as np

from graphopt.ir import DType
from graphopt.targets.device import Target
from graphopt.targets.llvm import features_of
from graphopt.targets.schedules.templates.channel_quads import QuadsOfArm, QuadsOfX86
from graphopt.targets.schedules.templates.channel_taps import ChannelTaps, InFull, InHalves, InPairs
from graphopt.targets.schedules.templates.dot.pairs import INTRINSICS

FEWEST_ROWS = 3
"""Rows of taps that are worth being put side by side in fours."""

LOWEST = -128
"""The weight of which two products need not fit 16 bits."""


def taps_of(x: DType, weights: np.ndarray, kernel: tuple[int, int], target: Target) -> ChannelTaps:
    """The best way to multiply taps of type `x` with `weights` on `target`."""
    lanes, features = target.vector_bits // 32, features_of(target)
    if target.family == "x86" and lanes in INTRINSICS:
        vnni = "avx512vnni" in features or (lanes == 8 and "avxvnni" in features)
        if vnni and x is DType.uint8 and weights.dtype == np.int8 and kernel[0] >= FEWEST_ROWS:
            return QuadsOfX86(kernel, lanes)
        return InPairs(kernel, lanes)
    if x is DType.int8 and weights.dtype == np.int8:
        if "dotprod" in features and kernel[0] >= FEWEST_ROWS:
            return QuadsOfArm(kernel)
        if not (weights == LOWEST).any():
            return InHalves(kernel)
    return InFull(kernel, "int16" if x is DType.int16 else str(weights.dtype))
