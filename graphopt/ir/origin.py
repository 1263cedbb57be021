"""Where nodes come from, so that a report can speak of what the user knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.graph import Node

NAMED_SOURCES = 3
"""Names of source nodes in the place of a node's own; the rest are counted."""


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: the rule that made it (empty: the imported model) and its source nodes.

    `sources` are names of nodes of the imported model.
    """

    rule: str = ""
    sources: tuple[str, ...] = ()

    def merged(self, rule: str, others: Iterable[Node]) -> Origin:
        names: dict[str, None] = dict.fromkeys(self.sources)
        for node in others:
            names.update(dict.fromkeys(node.origin.sources))
        return Origin(rule, tuple(names))

    def known_as(self, name: str) -> str:
        """What a user calls a node named `name`: that, where it is the model's own; else the nodes it is made of."""
        if not self.sources or name in self.sources:
            return name
        more = len(self.sources) - NAMED_SOURCES
        return " + ".join(self.sources[:NAMED_SOURCES]) + (f" + {more} more" if more > 0 else "")
