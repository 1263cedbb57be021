"""Ways to vary samples that a model learns from: `graphopt recover --augment bench.variations:pictures`."""

from __future__ import annotations

import numpy as np

COLOURS = 3
SHIFT = 3
"""Pixels, at most, in each direction."""


def pictures(batch: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Mirrored half of the time, and shifted; what comes in from outside repeats the edge.

    Images are [samples, 1, 3, h, w] or [samples, 1, h, w, 3].
    """
    return {name: np.stack([_varied(image, random) for image in images]) for name, images in batch.items()}


def _varied(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    rows, columns = (1, 2) if image.shape[-1] == COLOURS else (2, 3)
    if random.random() < 0.5:
        image = np.flip(image, columns)
    for axis in (rows, columns):
        length, shift = image.shape[axis], int(random.integers(-SHIFT, SHIFT + 1))
        image = np.take(image, np.clip(np.arange(length) + shift, 0, length - 1), axis)
    return image
