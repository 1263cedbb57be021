"""Dot products of bytes, one module for each instruction set, behind one interface.

Kernels are driven by `Dot`; `choose_dot` finds the best one for a target and the operands.
"""

from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums
from graphopt.targets.schedules.templates.dot.choice import choose_dot
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.dot.tile import best_dot_tile

__all__ = ["Dot", "Inputs", "Pointer", "Sums", "best_dot_tile", "choose_dot"]
