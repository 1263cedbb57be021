"""The tile that a dot product works on."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.dot.base import Dot
from graphopt.targets.schedules.templates.tile import WIDEST, layer_cost

MOST_VECTORS = 8


def best_dot_tile(
    dot: Dot, outputs: int, vectors: int, target: Target, choices: Sequence[int] | None = None
) -> tuple[int, int]:
    """Columns and vectors of the tile that takes the fewest estimated cycles for a step of the whole layer.

    The layer has `outputs` columns in a row and `vectors` vectors of channels; tiles have one of `choices` vectors,
    where they are given.
    """
    best, best_cost = (1, choices[0] if choices else 1), float("inf")
    for wide in choices or range(1, min(vectors, MOST_VECTORS) + 1):
        for columns in range(1, min(outputs, WIDEST) + 1):
            if dot.registers(columns, wide) > target.vector_registers:
                break
            cost = layer_cost(outputs, vectors, columns, wide, lambda c, v: dot.cycles(c, v, target))
            if cost < best_cost * 0.999:
                best, best_cost = (columns, wide), cost
    return best
