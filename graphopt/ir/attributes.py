"""What the attributes of a node hold, one method a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

Attribute = Union[int, float, str, bytes, tuple, np.ndarray, "Graph", None]
"""A graph is the body of a control flow operator, or of a fused group."""


class Attributes:
    """A holder of `attributes`: name -> value."""

    __slots__ = ()

    attributes: dict[str, Any]

    def attr(self, name: str, default: Attribute = None) -> Any:
        """What the attribute holds depends on the operator; the methods below give one type each."""
        return self.attributes.get(name, default)

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """An attribute of integers as a tuple, or `default`."""
        value = self.attributes.get(name)
        if value is None:
            return None if default is None else tuple(default)
        return tuple(int(v) for v in value)

    def int(self, name: str, default: int = 0) -> int:
        return int(self.attributes.get(name, default))

    def float(self, name: str, default: float = 0.0) -> float:
        return float(self.attributes.get(name, default))

    def str(self, name: str, default: str = "") -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)
