"""Weights of 4 bits for firmware: two in a byte, from -8 to 7 in two's complement, unpacked as they are read."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = -8, 7

FEWEST = 64
"""Weights of a layer; fewer stay bytes."""

INT32 = 2**31 - 1


def fits_nibbles(weights: np.ndarray) -> bool:
    """Each of them is a number of 4 bits, and there are enough to be worth it."""
    return weights.size >= FEWEST and weights.min() >= LOWEST and weights.max() <= HIGHEST


def fits_shifted(weights: np.ndarray, starts: np.ndarray, largest: int, shift: int) -> bool:
    """Sums of weights (channels, ...) with inputs of magnitude up to `largest`, on top of `starts`, fit int32 if all is
    moved so many bits to the left, whatever the order."""
    magnitudes = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1)
    return bool(((np.abs(starts.astype(np.int64)) + magnitudes * largest) << shift <= INT32).all())


def in_nibbles(bytes: np.ndarray, unit: int) -> np.ndarray:
    """Runs of `unit` bytes two by two in one: the first in the upper halves of the bytes, the second in the lower."""
    first, second = np.moveaxis(bytes.reshape(-1, 2, unit).view(np.uint8), 1, 0)
    return (first << 4 | second & 15).reshape(-1).view(np.int8)
