"""What the routines read and write, for those who ask whether tensors may share memory.

A routine goes in rounds; in each it reads and writes runs of elements that move on by a pace. Reads count as late as
they may happen: those of round r before what is written in round r + `late`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.targets.firmware.helium import PREFIX


@dataclass(frozen=True)
class Effect:
    """On what the argument with the number `argument` points to."""

    argument: int
    pace: int
    length: int
    late: int = 1
    is_store: bool = False


Effects = tuple[int, tuple[Effect, ...]]
"""The number of rounds, and what happens in each."""

IN_ADVANCE = 2
"""Pixels behind the first one of a tile, which are written with it."""


def effects(name: str, arguments: Sequence[int]) -> Effects:
    """Of a call of a routine with these numbers; pointers are any number. Raises KeyError for another function."""
    return _EFFECTS[name.removeprefix(PREFIX)](*arguments)


def _store(argument: int, pace: int, length: int) -> Effect:
    return Effect(argument, pace, length, late=0, is_store=True)


def _run(count: int, pace: int, length: int) -> int:
    """Elements from the first of `count` runs to the end of the last."""
    return (count - 1) * pace + length


def _product(
    x: int, step: int, pixels: int, packed: int, depth: int, channels: int, y: int, y_step: int, *cut: int
) -> Effects:
    words = 2 * (channels + 15) + (channels + 3) * (depth + 15)
    return pixels, (
        Effect(0, step, depth),
        Effect(3, 0, words),
        _store(6, y_step, IN_ADVANCE * y_step + channels),
    )


def _depthwise(
    x: int, step: int, pixels: int, packed: int, taps: int, channels: int, y: int, y_step: int, *cut: int
) -> Effects:
    return 1, (
        Effect(0, 0, _run(pixels, step, taps * 16)),
        Effect(3, 0, 32 + taps * 4),
        _store(6, 0, _run(pixels, y_step, channels)),
    )


def _sums(
    x: int, step: int, pixels: int, packed: int, depth: int, channels: int, sums: int, row: int
) -> Effects:
    words = 2 * (channels + 15) + (channels + 3) * (depth + 15)
    made = _store(6, 0, _run(pixels, row, channels))
    return 1, (Effect(0, 0, _run(pixels, step, depth)), Effect(3, 0, words), made)


def _depthwise_sums(x: int, step: int, pixels: int, packed: int, taps: int, sums: int) -> Effects:
    made = _store(5, 0, pixels * 16)
    return 1, (Effect(0, 0, _run(pixels, step, taps * 16)), Effect(3, 0, 32 + taps * 4), made)


def _columns(x: int, step: int, to: int, to_step: int, bytes: int, columns: int) -> Effects:
    return 1, (Effect(0, 0, _run(columns, step, bytes)), _store(2, 0, _run(columns, to_step, bytes)))


def _padding(value: int, to: int, to_step: int, bytes: int, columns: int) -> Effects:
    return 1, (_store(1, 0, _run(columns, to_step, bytes)),)


def _add(a: int, b: int, elements: int, *others: int) -> Effects:
    """Element by element: each is read before the one at its place is written."""
    return elements, (Effect(0, 1, 1, late=0), Effect(1, 1, 1, late=0), _store(7, 1, 1))


def _add_sums(sums: int, row: int, packed: int, channels: int, pixels: int, *others: int) -> Effects:
    """As `_add`."""
    return pixels * channels, (
        Effect(0, 0, _run(pixels, row, channels)),
        Effect(2, 0, 2 * channels),
        Effect(5, 1, 1, late=0),
        _store(9, 1, 1),
    )


def _sum_pool(
    x: int, row_step: int, step: int, rows: int, columns: int, channels: int, *others: int
) -> Effects:
    return 1, (Effect(0, 0, (rows - 1) * row_step + _run(columns, step, channels)), _store(8, 0, channels))


def _max_pool(x: int, row_step: int, step: int, rows: int, columns: int, channels: int, y: int) -> Effects:
    return 1, (Effect(0, 0, (rows - 1) * row_step + _run(columns, step, channels)), _store(6, 0, channels))


_EFFECTS: dict[str, Callable[..., Effects]] = {
    "add": _add,
    "add_sums": _add_sums,
    "columns": _columns,
    "depthwise": _depthwise,
    "depthwise_sums": _depthwise_sums,
    "max_pool": _max_pool,
    "nibble_product": _product,
    "nibble_sums": _sums,
    "padding": _padding,
    "product": _product,
    "sum_pool": _sum_pool,
    "sums": _sums,
}
