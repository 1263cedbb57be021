"""Which indices of each dimension stay when others are taken out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.analysis.groups.links import Dimension
from graphopt.ir.types import Dim


class Kept:
    """`gone` has the indices that go, in ascending order, of the dimensions that lose any.

    Lengths are those of before: a value's type is not to change while this is in use, a constant's may.
    """

    def __init__(self, gone: Mapping[Dimension, np.ndarray]) -> None:
        self.gone = gone
        self._lengths = {dimension: dimension.value.shape for dimension in gone}

    def indices(self, dimension: Dimension) -> np.ndarray:
        """Those that stay, in the numbers of before. The length must be known."""
        length = self.before(dimension)
        assert isinstance(length, int)
        every = np.arange(length)
        return np.delete(every, self.gone[dimension]) if dimension in self.gone else every

    def size(self, dimension: Dimension) -> Dim:
        """How many stay; a symbol stays one."""
        length = self.before(dimension)
        if dimension not in self.gone:
            return length
        assert isinstance(length, int)
        return length - len(self.gone[dimension])

    def before(self, dimension: Dimension) -> Dim:
        shape = self._lengths.get(dimension) or dimension.value.shape
        assert shape is not None
        return shape[dimension.axis]

    def changes(self, dimension: Dimension) -> bool:
        return dimension in self.gone
