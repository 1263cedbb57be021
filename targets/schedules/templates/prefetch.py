"""Asking for weights before they are used.

Weights that come from memory are read once, in order; the hardware fetches such a stream ahead, but stops at every
page. Measured with vectors of 512 bits, asking 4 to 12 KiB ahead takes up to a fifth off a layer whose weights are not
in the caches, and costs nothing where they are. Narrow vectors use weights up more slowly.

LLVM leaves loads on their side of a request. Without one, taps that are written out share what they read of the input,
and the sums are spilled for it: in a tile of 272 products of bytes 133 of them, none with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.kernel import element_type

WIDE = 256
"""Bits of the narrowest vectors that it is done for."""

AHEAD = 6144
"""Bytes between what is used and what is asked for: a page and a half."""

LINE = 64
"""Bytes of a line of the cache."""

FOR_READING = (0, 2, 1)
"""LLVM's operands: to read, to keep in all caches but the first, data. What is asked for long before would drive out
of that one what is used now."""


def fetch_ahead(weights: tirx.Var, begin: Expr, elements: int, target: Target) -> None:
    """Ask for what is read later, where so many elements from `begin` on are read now."""
    if target.vector_bits < WIDE:
        return
    size = _bytes_of(weights)
    for place in range(0, elements, LINE // size):
        _fetch(weights, begin + AHEAD // size + place)


@dataclass(frozen=True)
class NextWeights:
    """The weights of the next tile, `elements` behind those of this one.

    `visits` tiles read the same weights one after another; each asks for an equal share of the next ones, so that
    memory is read all the time and not in the first of them alone.
    """

    elements: int
    visits: int

    @classmethod
    def of(cls, elements: int, size: int, tiles: int, visits: int, target: Target) -> NextWeights | None:
        """None where there is no next tile, or no room in the second-level cache for the weights of both: so many
        elements of `size` bytes for each."""
        if tiles == 1 or target.vector_bits < WIDE or 2 * elements * size > target.l2_bytes:
            return None
        return cls(elements, visits)

    def fetch(self, weights: Pointer, elements: int, visit: Expr) -> None:
        """Ask for the share of tile number `visit`, where so many elements from `weights` on are read now."""
        line = LINE // _bytes_of(weights.buffer)
        lines = -(-elements // line)
        each = -(-lines // self.visits)
        share = tirx.min(visit, -(-lines // each) - 1)
        first = (weights + (self.elements + share * (each * line))).offset
        for number in range(each):
            _fetch(weights.buffer, first + number * line)


def _bytes_of(weights: tirx.Var) -> int:
    """Of an element."""
    return tvm.DataType(element_type(weights)).bits // 8


def _fetch(buffer: tirx.Var, place: Expr) -> None:
    options = (tirx.const(option, "int32") for option in FOR_READING)
    T.evaluate(tirx.call_intrin("void", "tirx.prefetch", tirx.address_of(buffer[place]), *options))
