"""Axes that a new shape splits and merges: `[N, C, H, W] -> [N, C*H*W]`, `[T, H*E] -> [T, H, E]`.

Shapes fall into the smallest stretches of equal products. Where one axis becomes several, or several become one, the
long axis is a product: index ((a * B) + b) * C + c of it is (a, b, c) of the short ones. Only one of the short axes can
give up indices; the others are needed whole. It is the one that nothing pins, and the outermost of several: heads,
not their width. Since that depends on all other nodes, stretches are settled last (`find.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.groups.links import Dimension, Links, operand, value_of
from graphopt.ir import Node
from graphopt.ir.types import Dim


@dataclass(frozen=True)
class Product:
    """A long axis, and the short ones whose product it is, all longer than one element."""

    node: Node
    long: Dimension
    short: tuple[Dimension, ...]

    def settle(self, links: Links, chosen: int | None) -> None:
        """The long axis follows short axis number `chosen`; the others, or all, are pinned."""
        told = f"'{self.node.origin.known_as(self.node.name)}' ({self.node.key}) needs it whole"
        for number, one in enumerate(self.short):
            if number != chosen:
                links.pin(one, told)
        if chosen is None:
            links.pin(self.long, told)
            return
        sizes = [one.size or 0 for one in self.short]
        every = np.arange(math.prod(sizes))
        place = every // math.prod(sizes[chosen + 1 :]) % sizes[chosen]
        links.link(self.long, every, self.short[chosen], place)


def reshape(node: Node, links: Links) -> list[Product]:
    """Link the axes that stay; returns the stretches to be settled."""
    x = operand(node, 0)
    assert x is not None
    y = node.output
    before, after = value_of(x).shape, y.shape
    assert before is not None and after is not None
    found = []
    for ins, outs in stretches(before, after) or ():
        first = [Dimension(x, axis) for axis in ins]
        second = [Dimension(y, axis) for axis in outs]
        if len(first) == len(second) == 1:
            links.same(first[0], second[0])
        elif len(first) == 1:
            found.append(Product(node, first[0], tuple(second)))
        elif len(second) == 1:
            found.append(Product(node, second[0], tuple(first)))
    for product in found:
        for one in (product.long, *product.short):
            links.free(one)
    return found


def stretches(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> list[tuple[list[int], list[int]]] | None:
    """The smallest stretches of axes whose lengths have equal products; axes of one element are left out.

    A symbol equals itself alone. None where the shapes do not fall apart so.
    """
    ins = [axis for axis, dim in enumerate(before) if dim != 1]
    outs = [axis for axis, dim in enumerate(after) if dim != 1]
    found = []
    while ins and outs:
        if before[ins[0]] == after[outs[0]]:
            found.append(([ins.pop(0)], [outs.pop(0)]))
            continue
        a, b = before[ins[0]], after[outs[0]]
        taken, given = [ins.pop(0)], [outs.pop(0)]
        while a != b:
            if isinstance(a, str) or isinstance(b, str):
                return None
            side, axes, shape = (taken, ins, before) if a < b else (given, outs, after)
            if not axes:
                return None
            dim = shape[axes[0]]
            if isinstance(dim, str):
                return None
            side.append(axes.pop(0))
            if side is taken:
                a *= dim
            else:
                b *= dim
        found.append((taken, given))
    return None if ins or outs else found
