"""The constants of a library: one stretch of bytes, each array at an offset of it, equal arrays once."""

from __future__ import annotations

import hashlib

import numpy as np

from graphopt.targets.abi import ALIGNMENT


class Weights:
    """`blob` grows by what `place` is given that it does not hold yet; `arrays` is what it holds, by offset."""

    def __init__(self, alignment: int = ALIGNMENT) -> None:
        self.blob = bytearray()
        self.arrays: dict[int, np.ndarray] = {}
        self._alignment = alignment
        self._offsets: dict[bytes, int] = {}

    def place(self, array: np.ndarray) -> int:
        """The offset of the array's bytes in `blob`, a multiple of `alignment`."""
        data = np.ascontiguousarray(array).tobytes()
        digest = hashlib.sha256(data).digest()
        if digest not in self._offsets:
            self.blob.extend(bytes(-len(self.blob) % self._alignment))
            self._offsets[digest] = len(self.blob)
            self.arrays[len(self.blob)] = array
            self.blob.extend(data)
        return self._offsets[digest]
