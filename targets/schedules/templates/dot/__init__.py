"""Dot products of bytes, one module for each instruction set, behind one interface.

Kernels are driven by `Dot`; `choose_dot` finds the best one for a target and the operands.
"""

from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums
from graphopt.targets.schedules.templates.dot.choice import choose_dot, fitting_dots
from graphopt.targets.schedules.templates.dot.nibbles import NibbleDot, in_nibbles, stays_packed
from graphopt.targets.schedules.templates.dot.pointer import Pointer, Words
from graphopt.targets.schedules.templates.dot.tile import best_dot_tile, tile_of

__all__ = [
    "Dot",
    "Inputs",
    "NibbleDot",
    "Pointer",
    "Sums",
    "Words",
    "best_dot_tile",
    "choose_dot",
    "fitting_dots",
    "in_nibbles",
    "stays_packed",
    "tile_of",
]
