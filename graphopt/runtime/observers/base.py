"""What observers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.spec import spec_of


class Observation:
    """What is known so far of one value, of the whole tensor or of each channel."""

    def add(self, channels: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Take one sample: (channels, elements of each), finite floats, with the extremes of each channel."""
        raise NotImplementedError

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of each channel (float64). At least one sample has been added."""
        raise NotImplementedError


@dataclass(frozen=True)
class Observer:
    """A way to find ranges. A subclass sets `name`; its fields are its options."""

    name: ClassVar[str]

    def start(self) -> Observation:
        """Begin with a value."""
        raise NotImplementedError

    def __str__(self) -> str:
        return spec_of(self.name, self)


def as_channels(array: np.ndarray, axis: int | None) -> np.ndarray:
    """(channels, elements of each): one channel without an `axis`. A view wherever the axis allows it."""
    if axis is None:
        return array.reshape(1, -1)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
