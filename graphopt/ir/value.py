"""A value of a graph: one producer (a node, or none for graph inputs and constants), any number of uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph, Node


@dataclass(frozen=True)
class Use:
    """Input number `index` of `node` is the value."""

    node: Node
    index: int


class Value:
    """One tensor: produced once, used any number of times.

    `constant` holds the data of a constant (read-only); None otherwise.
    """

    __slots__ = ("constant", "graph", "index", "name", "outputs_of_graph", "producer", "type", "_uses")

    def __init__(self, name: str, type: TensorType | None, graph: Graph | None) -> None:
        self.name = name
        self.type = type
        self.graph = graph
        self.producer: Node | None = None
        self.index = 0
        self.constant: np.ndarray | None = None
        self.outputs_of_graph = 0
        self._uses: dict[tuple[int, int], Use] = {}

    @property
    def uses(self) -> tuple[Use, ...]:
        """Every (node, input index) that reads the value, in the order the uses were made."""
        return tuple(self._uses.values())

    @property
    def users(self) -> tuple[Node, ...]:
        """Every node that reads the value, once each."""
        return tuple(dict.fromkeys(use.node for use in self._uses.values()))

    @property
    def is_graph_output(self) -> bool:
        return self.outputs_of_graph > 0

    @property
    def is_constant(self) -> bool:
        return self.constant is not None

    @property
    def is_input(self) -> bool:
        return self.producer is None and self.constant is None

    @property
    def dtype(self) -> DType:
        """Raises IRError when the type is unknown."""
        return self._known().dtype

    @property
    def shape(self) -> tuple[int | str, ...] | None:
        return None if self.type is None else self.type.shape

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints. Raises IRError when it is not static."""
        try:
            return self._known().static_shape
        except ValueError as error:
            raise IRError(str(error), where=f"value '{self.name}'") from None

    @property
    def size(self) -> int:
        """The number of elements. Raises IRError when the shape is not static."""
        return math.prod(self.static_shape)

    @property
    def is_static(self) -> bool:
        return self.type is not None and self.type.is_static

    @property
    def rank(self) -> int | None:
        return None if self.type is None else self.type.rank

    def _known(self) -> TensorType:
        if self.type is None:
            raise IRError("its type is unknown", where=f"value '{self.name}'")
        return self.type

    def scalar(self) -> int | float | bool | None:
        """The value of a constant with one element (of any rank), else None."""
        if self.constant is None or self.constant.size != 1:
            return None
        return self.constant.reshape(()).item()

    def replace_uses(self, new: Value, *, outputs: bool = True) -> None:
        """Make every user read `new`; with `outputs`, graph outputs too (they keep their names)."""
        if new is self:
            return
        for use in self.uses:
            use.node.set_input(use.index, new)
        if outputs and self.outputs_of_graph:
            assert self.graph is not None
            for index, value in enumerate(self.graph.outputs):
                if value is self:
                    self.graph.set_output(index, new)

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"
