"""Tensors seen through the operators that only move them: where each element really lies.

A Transpose, a Split or most Reshapes of a tensor need no copy when the reader follows strides. numpy knows the rules:
the operators are applied to an array of bytes as large as the source, and the strides of the result are read off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Node, Value

MOVES = ("Gather", "Reshape", "Split", "Transpose")


@dataclass(frozen=True)
class View:
    """A tensor inside `source`: element (i, j, ...) lies `offset` + i * strides[0] + j * strides[1] + ... in it."""

    source: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def moves_of(value: Value, allowed: Sequence[Node] | None = None) -> list[Node]:
    """The moves between `value` and the furthest value that it is a view of, the last one first.

    `allowed` are the nodes to look through; None: any.
    """
    found: list[Node] = []
    source = value
    while source.producer is not None and (allowed is None or source.producer in allowed):
        node, before = source.producer, source.producer.input(0)
        if not node.is_op(*MOVES) or before is None or before.constant is not None or not before.is_static:
            break
        if _seen(before, [*found, node], value) is None:
            break
        found.append(node)
        source = before
    return found


def view_of(value: Value, moves: Sequence[Node], heads: int | None = None) -> View:
    """`value` as a view of what goes into the last of `moves`.

    With `heads`, (batch, tokens, heads * width) is seen as (batch, heads, tokens, width).
    """
    source = value if not moves else moves[-1].input(0)
    assert source is not None
    seen = _seen(source, moves, value)
    assert seen is not None
    array, base = seen
    if heads is not None:
        array = _apart(array, heads)
    return View(source, _address(array) - _address(base), array.shape, array.strides)


def view_from(value: Value, moves: Sequence[Node], heads: int | None = None) -> View | None:
    """Where the elements of `value` lie in what the last of `moves`, which read it one after another, makes.

    None where a move does more than rename axes. `heads` as in `view_of`.
    """
    target = moves[-1].output if moves else value
    array = np.empty(target.static_shape, np.int8)
    for node in reversed(moves):
        if not node.is_op("Transpose"):
            return None
        order = node.ints("perm", tuple(reversed(range(array.ndim))))
        assert order is not None
        array = array.transpose(np.argsort(order))
    if heads is not None:
        array = _apart(array, heads)
    return View(target, 0, array.shape, array.strides)


def _seen(source: Value, moves: Sequence[Node], value: Value) -> tuple[np.ndarray, np.ndarray] | None:
    """`value` as an array inside one for `source`, and that; None where elements would have to be copied."""
    base = np.empty(source.static_shape, np.int8)
    array = base
    for number in reversed(range(len(moves))):
        made = value if number == 0 else moves[number - 1].input(0)
        assert made is not None
        after = _moved(moves[number], made, array)
        if after is None or not np.may_share_memory(after, base):
            return None
        array = after
    return array, base


def _moved(node: Node, made: Value, array: np.ndarray) -> np.ndarray | None:
    """What `node` makes of `array`: its output `made`."""
    if node.op_type == "Reshape":
        return array.reshape(made.static_shape)
    if node.op_type == "Transpose":
        return array.transpose(node.ints("perm", tuple(reversed(range(array.ndim)))))
    if node.op_type == "Split":
        axis = node.int("axis") % array.ndim
        sizes = [value.static_shape[axis] for value in node.outputs]
        start = sum(sizes[: made.index])
        return array[(slice(None),) * axis + (slice(start, start + sizes[made.index]),)]
    index, axis = node.input(1), node.int("axis") % array.ndim
    number = None if index is None or index.constant is None or index.constant.ndim else index.scalar()
    return None if number is None else array[(slice(None),) * axis + (int(number),)]


def _apart(array: np.ndarray, heads: int) -> np.ndarray:
    """(batch, tokens, heads * width) --> (batch, heads, tokens, width)."""
    batch, tokens, width = array.shape
    return array.reshape(batch, tokens, heads, width // heads).transpose(0, 2, 1, 3)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
