"""Rules of operators that leave every element at its place, of normalisations, pools and reductions."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.groups.links import Dimension, Holder, Links, dimension, operand, value_of
from graphopt.ir import Node, Value


def elementwise(node: Node, links: Links) -> None:
    """Operands are broadcast against each other."""
    holders = [operand(node, index) for index in range(len(node.inputs))]
    for output in node.outputs:
        if output.rank is not None:
            given = [(holder, value_of(holder).rank or 0) for holder in holders if holder is not None]
            broadcast(links, given, output, output.rank)


def broadcast(links: Links, operands: list[tuple[Holder, int]], result: Value, rank: int) -> None:
    """The first axes of operands, so many of each, are aligned at the right with the first `rank` of `result`.

    An axis of one element goes with any: it is never taken from.
    """
    for holder, count in operands:
        for place in range(1, count + 1):
            one, other = dimension(holder, count - place), dimension(result, rank - place)
            assert one is not None and other is not None
            if one.size == 1 and other.size != 1:
                links.free(one)
                links.free(other)
            else:
                links.same(one, other)


def batch_normalization(node: Node, links: Links) -> None:
    """Each channel (axis 1) is scaled and shifted by itself."""
    _same_axes(links, operand(node, 0), node.output)
    for index in range(1, 5):
        links.same(dimension(operand(node, index), 0), dimension(node.output, 1))


def instance_normalization(node: Node, links: Links) -> None:
    """Each channel of each sample by itself: pixels are needed whole."""
    for axis in (0, 1):
        links.same(dimension(operand(node, 0), axis), dimension(node.output, axis))
    for index in (1, 2):
        links.same(dimension(operand(node, index), 0), dimension(node.output, 1))


def group_normalization(node: Node, links: Links) -> None:
    """Groups of channels are normalised together, and go together."""
    instance_normalization(node, links)
    channels = dimension(node.output, 1)
    assert channels is not None
    if channels.size is None:
        return
    wide = channels.size // node.int("num_groups", 1)
    every = np.arange(channels.size)
    links.link(channels, every, channels, every // wide * wide)


def normalization_of_rows(node: Node, links: Links) -> None:
    """LayerNormalization, RMSNormalization: elements of the last axes change with each other."""
    x, y = operand(node, 0), node.output
    _same_axes(links, x, y)
    rank = y.rank or 0
    first = node.int("axis", -1) % rank
    told = f"'{node.origin.known_as(node.name)}' ({node.key}) normalises along it"
    for axis in range(first, rank):
        normalised = dimension(y, axis)
        assert normalised is not None
        links.couple(normalised, told)
    given = [holder for holder in (operand(node, 1), operand(node, 2)) if holder is not None]
    for holder in given:
        count = value_of(holder).rank or 0
        for place in range(1, count + 1):
            one, other = dimension(holder, count - place), dimension(y, rank - place)
            assert one is not None
            if one.size != 1:
                links.same(one, other)


def along_axis(node: Node, links: Links) -> None:
    """Softmax, CumSum, ...: one axis is needed whole, the others are not touched."""
    rank = node.output.rank or 0
    if node.is_op("CumSum"):
        axes = node.input(1)
        if axes is None or axes.constant is None:
            return
        whole = int(axes.constant.reshape(())) % rank
    else:
        whole = node.int("axis", -1) % rank
    for axis in range(rank):
        if axis != whole:
            links.same(dimension(operand(node, 0), axis), dimension(node.output, axis))


def window(node: Node, links: Links) -> None:
    """Pools: batch and channels stay."""
    for axis in (0, 1):
        links.same(dimension(operand(node, 0), axis), dimension(node.output, axis))


def reduction(node: Node, links: Links) -> None:
    """What is reduced is needed whole."""
    x = operand(node, 0)
    assert x is not None
    rank = value_of(x).rank or 0
    axes = _reduced(node, rank)
    if axes is None:
        return
    kept = bool(node.int("keepdims", 1))
    place = 0
    for axis in range(rank):
        if axis not in axes:
            links.same(dimension(x, axis), dimension(node.output, axis if kept else place))
            place += 1


def _reduced(node: Node, rank: int) -> set[int] | None:
    if node.is_op("ArgMax", "ArgMin"):
        return {node.int("axis") % rank}
    axes = node.input(1)
    if axes is None or (axes.constant is not None and not axes.constant.size):
        return set() if node.int("noop_with_empty_axes") else set(range(rank))
    return None if axes.constant is None else {int(axis) % rank for axis in axes.constant.reshape(-1)}


def _same_axes(links: Links, x: Holder | None, y: Value) -> None:
    assert x is not None
    if value_of(x).rank != y.rank:
        return
    for axis in range(y.rank or 0):
        links.same(Dimension(x, axis), Dimension(y, axis))
