"""Residual blocks taken out of a graph, by name.

    y = Add(x, f(x))  -->  y = x

What a block is stands in `pruning/blocks.py`. Which blocks a model can do without is measured on samples, and what
stays is fitted to them: `graphopt.prune(blocks=True)`, which tells the names that this pass takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph
from graphopt.passes.pruning.blocks import Block, residual_blocks, take_out
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics

SHOWN = 5


@dataclass(frozen=True)
class PruneLayers(Pass):
    """Take residual blocks out, named by their last layers."""

    name: ClassVar[str] = "prune-layers"
    blocks: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        if not self.blocks:
            raise UsageError(
                "nothing says which blocks are to go", where=self.name, hint="write blocks=NAME+NAME"
            )
        for name in self.blocks:
            found = [block for block in removable(graph) if block.name == name]
            if not found:
                known = [block.name for block in residual_blocks(graph)]
                hint = did_you_mean(name, known, f"blocks: {', '.join(known[:SHOWN])}")
                raise UsageError(f"there is no block '{name}'", where="blocks", hint=hint)
            take_out(graph, found[:1])
        statistics.fired[self.name] += len(self.blocks)


def removable(graph: Graph, exclude: Sequence[str] = ()) -> list[Block]:
    """The blocks without nodes that `exclude` names. Raises UsageError where there is none, or a name fits none."""
    blocks = residual_blocks(graph)
    if not blocks:
        told = "nothing can be taken out: it has no residual block"
        raise UsageError(told, where="blocks", hint="take channels out: leave --blocks away")
    for pattern in exclude:
        if not any(_fits(pattern, block) for block in blocks):
            known = [block.name for block in blocks]
            hint = did_you_mean(pattern, known, f"blocks: {', '.join(known[:SHOWN])}")
            raise UsageError(f"no block has a node '{pattern}'", where="exclude", hint=hint)
    kept = [block for block in blocks if not is_excluded(block, exclude)]
    if not kept:
        raise UsageError("nothing can be taken out: every block is excluded", where="exclude")
    return kept


def is_excluded(block: Block, exclude: Sequence[str]) -> bool:
    """Whether `exclude` names a node of it."""
    return any(_fits(pattern, block) for pattern in exclude)


def _fits(pattern: str, block: Block) -> bool:
    return any(pattern == name or fnmatchcase(name, pattern) for name in (block.name, *block.nodes))
