"""The numbers that quantised weights may be: integers within limits, times a scale, about a zero point.

w = (q - zero_point) scale            a scale and a zero point for each row, or for each group of its weights
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphopt.passes.quantization.narrow_parameters import storable

SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Grid:
    """Scales and zero points (g, m, groups) of rows (g, m, k), in float64; `group_of[k]` is the group of a weight.

    Scales are such as can be stored.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    low: int
    high: int
    group_of: np.ndarray

    @property
    def bits(self) -> int:
        return (self.high - self.low).bit_length()

    def along(self, numbers: np.ndarray) -> np.ndarray:
        """One number for each weight of a row."""
        return numbers[..., self.group_of]

    def values(self, integers: np.ndarray) -> np.ndarray:
        """What the integers (g, m, k) stand for."""
        return (integers - self.along(self.zero_point)) * self.along(self.scale)

    def nearest(self, rows: np.ndarray) -> np.ndarray:
        """The integers nearest to (g, m, k)."""
        integers = np.rint(rows / self.along(self.scale)) + self.along(self.zero_point)
        return np.clip(integers, self.low, self.high)

    def storable(self, scale: np.ndarray, *, up: bool = False) -> np.ndarray:
        """The scales next to these, or the next that are no less, that can be stored."""
        return storable(scale, self.bits, up=up).astype(np.float64)

    def where(self, better: np.ndarray, other: Grid) -> Grid:
        """The rows of `other` where `better` (g, m) is true."""
        mask = better[..., None]
        return replace(
            self,
            scale=np.where(mask, other.scale, self.scale),
            zero_point=np.where(mask, other.zero_point, self.zero_point),
        )

    def swapped(self) -> Grid:
        """Of as many groups as there were rows in a group, and the other way round."""
        return replace(self, scale=self.scale.swapaxes(0, 1), zero_point=self.zero_point.swapaxes(0, 1))

    def spanning(self, rows: np.ndarray, share: float, *, symmetric: bool) -> Grid:
        """The grid that spans a `share` of the range of each group of `rows`; zeros alone get scale 1."""
        groups = range(self.scale.shape[-1])
        parts = [rows[..., self.group_of == number] for number in groups]
        least = share * np.stack([np.minimum(part.min(-1), 0) for part in parts], -1)
        greatest = share * np.stack([np.maximum(part.max(-1), 0) for part in parts], -1)
        if symmetric:
            scale = np.maximum(-least, greatest) / self.high
        else:
            scale = (greatest - least) / (self.high - self.low)
        scale = self.storable(np.where(scale < SMALLEST, 1.0, scale), up=True)
        zero = np.zeros_like(scale) if symmetric else np.rint(self.low - least / scale)
        return replace(self, scale=scale, zero_point=np.clip(zero, self.low, self.high))
