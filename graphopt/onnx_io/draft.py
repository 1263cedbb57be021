"""The description of a node before it enters the graph: what adapters of older opsets change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphopt.ir import Value
from graphopt.rewrite.builder import Builder


@dataclass
class Draft:
    """A node on its way in: `outputs` are the model's names for what it computes.

    `after` wraps outputs, by number, once the node exists.
    """

    op_type: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: list[str]
    name: str
    build: Builder
    after: dict[int, Callable[[Value], Value]] = field(default_factory=dict)

    def to_input(self, attribute: str, index: int) -> None:
        """Turn an attribute of integers into the input `index`."""
        value = self.attributes.pop(attribute, None)
        if value is not None:
            self.set(index, self.build.shape([int(v) for v in value], attribute))

    def set(self, index: int, value: Value | None) -> None:
        while len(self.inputs) <= index:
            self.inputs.append(None)
        self.inputs[index] = value

    @property
    def where(self) -> str:
        return f"node '{self.name}' ({self.op_type})"
