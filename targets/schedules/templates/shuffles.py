"""Whole vectors across their lanes: transposed blocks, and what one vector adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr


def vector_at(buffer: tirx.Var, place: Expr | int, lanes: int, stride: int = 1) -> Expr:
    """`lanes` elements from `place` on."""
    return buffer[place] if lanes == 1 else buffer[tirx.Ramp(place, stride, lanes)]


def store_vector(buffer: tirx.Var, place: Expr | int, vector: Expr, lanes: int) -> None:
    T.buffer_store(buffer, vector, [place if lanes == 1 else tirx.Ramp(place, 1, lanes)])


def filled(value: float, lanes: int) -> Expr:
    number = tirx.const(value, "float32")
    return number if lanes == 1 else tirx.Broadcast(number, lanes)


def transposed(rows: Sequence[Expr]) -> list[Expr]:
    """The columns of a block of as many rows as there are lanes, a power of two.

    Each round deals the halves of the block out like a deck of cards; after as many rounds as there are bits in a
    row's number, rows and lanes have changed places.
    """
    lanes = len(rows)
    half = lanes // 2
    block = list(rows)
    for _ in range(lanes.bit_length() - 1):
        block = [T.bind(_dealt(block[i // 2], block[i // 2 + half], i % 2, lanes)) for i in range(lanes)]
    return block


def _dealt(a: Expr, b: Expr, part: int, lanes: int) -> Expr:
    """The lower or upper halves of two vectors, lane by lane in turn."""
    first = part * lanes // 2
    order = [place for lane in range(first, first + lanes // 2) for place in (lane, lanes + lane)]
    return tirx.Shuffle([a, b], [tirx.const(place, "int32") for place in order])


def across(vector: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a vector combined: its halves, until one lane is left."""
    while lanes > 1:
        lanes //= 2
        whole = T.bind(vector)
        halves = [
            tirx.Shuffle([whole], [tirx.const(first + lane, "int32") for lane in range(lanes)])
            for first in (0, lanes)
        ]
        vector = combine(*halves)
    return vector
