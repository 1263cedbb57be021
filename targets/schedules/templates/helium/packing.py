"""Constants in the order that the routines for Helium read them, as words: numbers of 16 channels, then weights."""

from __future__ import annotations

import numpy as np

from graphopt.targets.schedules.templates.nibbles import fits_nibbles, fits_shifted, in_nibbles

CHANNELS = 16
"""Those of a vector of bytes."""

SHIFT = 4
"""Sums of weights of 4 bits are so many bits to the left, for weights are multiplied as the upper half of a byte."""

KINDS = {8: "", 4: "nibble_"}
"""How the names of routines begin, by the bits of a weight."""

LOWEST_BYTE = -128

PAIR = 2
FOUR = 4

BY_FOURS = np.arange(CHANNELS).reshape(FOUR, FOUR).T.reshape(-1)
"""0 4 8 12 1 5 9 13 ...: how VLD4 deals out sums."""

BY_HALVES = BY_FOURS.reshape(FOUR, FOUR)[[0, 2, 1, 3]].reshape(-1)
"""0 4 8 12 2 6 10 14 ...: how products are widened twice."""


def rounded_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def named(template: str, bits: int) -> str:
    """What reports call it."""
    return template if bits == 8 else f"{template}-{bits}bit"


def bits_of(weights: np.ndarray, starts: np.ndarray) -> int:
    """What weights (channels, depth) are packed in: 4 bits where they and their sums fit, else 8."""
    return 4 if fits_nibbles(weights) and fits_shifted(weights, starts, -LOWEST_BYTE, SHIFT) else 8


def product_words(depth: int, channels: int, bits: int) -> int:
    """Words of the numbers and the weights that `helium_product`, or `helium_nibble_product`, reads."""
    weights = rounded_up(channels, FOUR) * rounded_up(depth, CHANNELS) * bits // 8
    return 2 * rounded_up(channels, CHANNELS) + weights // FOUR


def pack_product(
    weights: np.ndarray, starts: np.ndarray, multipliers: np.ndarray, *, bits: int
) -> np.ndarray:
    """Weights are (channels, depth), in int8."""
    channels, depth = weights.shape
    filled = np.zeros((rounded_up(channels, FOUR), rounded_up(depth, CHANNELS)), np.int8)
    filled[:channels, :depth] = weights
    pairs = filled.reshape(-1, PAIR, filled.shape[1] // CHANNELS, CHANNELS).transpose(0, 2, 1, 3)
    if bits == 4:
        starts, pairs = starts << np.int32(SHIFT), in_nibbles(pairs, CHANNELS)
    return np.concatenate([numbers(starts, multipliers).reshape(-1), _words(pairs)])


def depthwise_words(taps: int) -> int:
    """Words of 16 channels that `helium_depthwise` reads."""
    return 2 * CHANNELS + taps * CHANNELS // FOUR


def pack_depthwise(weights: np.ndarray, starts: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Weights are (channels, taps), in int8; the result is all blocks of 16 channels one after the other."""
    channels, taps = weights.shape
    filled = np.zeros((rounded_up(channels, CHANNELS), taps), np.int8)
    filled[:channels] = weights
    blocks = _words(filled.reshape(-1, CHANNELS, taps).transpose(0, 2, 1)).reshape(-1, taps * FOUR)
    ordered = numbers(starts, multipliers, BY_HALVES, BY_HALVES)
    return np.concatenate([ordered, blocks], axis=1).reshape(-1)


def numbers(
    starts: np.ndarray,
    multipliers: np.ndarray,
    order: np.ndarray | None = None,
    multiplied: np.ndarray = BY_FOURS,
) -> np.ndarray:
    """For every 16 channels, which are filled up with zeros: their starts in `order`, their multipliers as they are
    `multiplied`."""
    order = np.arange(CHANNELS) if order is None else order
    columns = []
    for values, chosen in ((starts, order), (multipliers, multiplied)):
        filled = np.zeros(rounded_up(len(values), CHANNELS), np.int32)
        filled[: len(values)] = values
        columns.append(filled.reshape(-1, CHANNELS)[:, chosen])
    return np.concatenate(columns, axis=1)


def starts(weights: np.ndarray, bias: np.ndarray | None, zero_point: int) -> np.ndarray:
    """What sums with weights (channels, depth) start from: the bias, less the zero point of all bytes."""
    own = np.zeros(len(weights), np.int64) if bias is None else bias.astype(np.int64)
    return (own - zero_point * weights.astype(np.int64).sum(axis=1)).astype(np.int32)


def fits_bytes(weights: np.ndarray) -> bool:
    """Some weights are of 16 bits because a zero point was taken off them."""
    return bool(weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127)


def _words(bytes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bytes).reshape(-1).view("<i4").astype(np.int32)
