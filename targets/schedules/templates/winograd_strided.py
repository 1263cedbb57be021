"""Winograd convolution with strides of two: 3x3, in fewer multiplications.

    y = A ((G g G^T) * (B d B^T)) A^T        m x m outputs from (2 m + 1) x (2 m + 1) inputs

Along an axis the inputs of even numbers meet the first and the last tap, those of odd numbers the one between. The
former is a filter of two taps without strides, for which Winograd's takes m + 1 multiplications, the latter takes m
(`StridedTransform`). Four outputs then need 81 multiplications instead of 144, and errors are amplified less than by
F(4, 3). The rest is as in `winograd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.targets.schedules.templates.winograd import WinogradConvolution
from graphopt.targets.schedules.templates.winograd_transform import StridedTransform, Transform

STRIDED_OUTPUTS = (2, 3, 4)
"""Of a tile along an axis. Five would spare little more, with half as many weights again."""


@dataclass(frozen=True)
class WinogradStridedConvolution(WinogradConvolution):
    """A 3x3 convolution of every second pixel, whose input and output have the same blocks."""

    name: str = "winograd-strided-convolution"

    STRIDES: ClassVar[tuple[int, int]] = (2, 2)

    def transform(self, outputs: int) -> Transform:
        return StridedTransform(outputs)

    @property
    def choices(self) -> tuple[int, ...]:
        return STRIDED_OUTPUTS
