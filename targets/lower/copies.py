"""Concat and Compress as copies of whole blocks: around the axis (outer, along, inner), the elements of each
stretch along the axis lie together, for every outer index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tvm import tirx

from graphopt.ir import Node
from graphopt.targets.lower.kernel import Literal, Memory, Writer, folded, write_kernel
from graphopt.targets.lower.tensors import Expr, constant, normalise_axis


@dataclass(frozen=True)
class Stretch:
    """`count` elements from `start` of operand `operand` go to `place` of the output, for each outer index."""

    operand: int
    start: int
    place: int
    count: int


def _copy(node: Node, outer: int, sizes: Sequence[int], stretches: Sequence[Stretch]) -> tirx.PrimFunc:
    """Copy the stretches; `sizes` are elements per outer index of each input, then of the output."""
    work = outer * sizes[-1]

    def build(write: Writer) -> None:
        result = write.result(0)
        with write.each(outer, work=work) as row:
            for stretch in stretches:
                source = write.operand(stretch.operand)

                def copy(i: Expr, s: Stretch = stretch, x: Memory | Literal = source) -> None:
                    result.store(x[row, s.start + i], row, s.place + i)

                write.lanes(stretch.count, copy, result.dtype, work=work if outer == 1 else 0)

    return write_kernel(node, build, [(outer, size) for size in sizes])


def _concat(node: Node) -> tirx.PrimFunc:
    shape = node.output.static_shape
    axis = normalise_axis(node.int("axis"), len(shape))
    outer, along, inner = folded(shape, axis)
    stretches, sizes, place = [], [], 0
    for number, value in enumerate(node.inputs):
        assert value is not None
        sizes.append(value.static_shape[axis] * inner)
        if sizes[-1]:
            stretches.append(Stretch(number, 0, place, sizes[-1]))
        place += sizes[-1]
    return _copy(node, outer, [*sizes, along * inner], stretches)


def _compress(node: Node) -> tirx.PrimFunc:
    """The slices along an axis (of the flat tensor, without one) where the condition, a constant, is true."""
    x, condition = node.inputs[0], constant(node, 1)
    assert x is not None and condition is not None
    axis = node.attr("axis")
    shape = x.static_shape if axis is not None else (x.size,)
    along = normalise_axis(node.int("axis"), len(shape)) if axis is not None else 0
    outer, dim, inner = folded(shape, along)
    chosen = np.flatnonzero(condition[:dim]).tolist()
    stretches = [
        Stretch(0, first * inner, place * inner, count * inner) for first, place, count in _runs(chosen)
    ]
    return _copy(node, outer, [dim * inner, 1, len(chosen) * inner], stretches)


def _runs(chosen: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first, place, count) of each run of consecutive numbers; `place` is where in the list it begins."""
    runs = []
    for _, run in groupby(enumerate(chosen), lambda pair: pair[1] - pair[0]):
        members = list(run)
        runs.append((members[0][1], members[0][0], len(members)))
    return runs


OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {"Compress": _compress, "Concat": _concat}
