"""Asking for weights before they are used.

Weights that come from memory are read once, in order; the hardware fetches such a stream ahead, but stops at every
page. Measured with vectors of 512 bits, asking 4 to 12 KiB ahead takes up to a fifth off a layer whose weights are not
in the caches, and costs nothing where they are. Narrow vectors use weights up more slowly.

LLVM leaves loads on their side of a request. Without one, taps that are written out share what they read of the input,
and the sums are spilled for it: in a tile of 272 products of bytes 133 of them, none with it.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.kernel import element_type

WIDE = 256
"""Bits of the narrowest vectors that it is done for."""

AHEAD = 6144
"""Bytes between what is used and what is asked for: a page and a half."""

LINE = 64
"""Bytes of a line of the cache."""

FOR_READING = (0, 3, 1)
"""LLVM's operands: to read, to keep in all caches, data."""


def fetch_ahead(weights: tirx.Var, begin: Expr, elements: int, target: Target) -> None:
    """Ask for what is read later, where so many elements from `begin` on are read now."""
    if target.vector_bits < WIDE:
        return
    size = tvm.DataType(element_type(weights)).bits // 8
    for place in range(0, elements, LINE // size):
        _fetch(weights, begin + AHEAD // size + place)


def _fetch(buffer: tirx.Var, place: Expr) -> None:
    options = (tirx.const(option, "int32") for option in FOR_READING)
    T.evaluate(tirx.call_intrin("void", "tirx.prefetch", tirx.address_of(buffer[place]), *options))
