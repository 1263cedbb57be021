"""Dot products of bytes, one module for each instruction set, behind one interface.

Kernels are driven by `Dot`; `choose_dot` finds the best one for a target and the operands.
"""

from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, kept_whole
from graphopt.targets.schedules.templates.dot.choice import choose_dot, fitting_dots
from graphopt.targets.schedules.templates.dot.few_bits import (
    PACKINGS,
    FewBitsDot,
    Packing,
    in_few_bits,
    stays_packed,
)
from graphopt.targets.schedules.templates.dot.pointer import Pointer, Words
from graphopt.targets.schedules.templates.dot.tile import best_dot_tile, tile_of

__all__ = [
    "PACKINGS",
    "Dot",
    "FewBitsDot",
    "Inputs",
    "Packing",
    "Pointer",
    "Sums",
    "Words",
    "best_dot_tile",
    "choose_dot",
    "fitting_dots",
    "in_few_bits",
    "kept_whole",
    "stays_packed",
    "tile_of",
]
