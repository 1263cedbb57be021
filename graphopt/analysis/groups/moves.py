"""Rules of operators that move elements: joins, cuts, other orders. Other shapes are in `reshapes.py`."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.groups.links import Dimension, Holder, Links, dimension, operand, value_of
from graphopt.ir import Node, Value


def transpose(node: Node, links: Links) -> None:
    rank = node.output.rank or 0
    order = node.ints("perm", tuple(reversed(range(rank)))) or ()
    for place, axis in enumerate(order):
        links.same(dimension(operand(node, 0), axis), dimension(node.output, place))


def concat(node: Node, links: Links) -> None:
    """Each operand is a stretch of the output's axis."""
    rank = node.output.rank or 0
    joined = node.int("axis") % rank
    holders = [operand(node, index) for index in range(len(node.inputs))]
    start = 0
    for holder in holders:
        assert holder is not None
        for axis in range(rank):
            if axis != joined:
                links.same(Dimension(holder, axis), Dimension(node.output, axis))
        start = _stretch(links, Dimension(holder, joined), Dimension(node.output, joined), start)


def split(node: Node, links: Links) -> None:
    """Each output is a stretch of the operand's axis."""
    x = operand(node, 0)
    assert x is not None
    rank = value_of(x).rank or 0
    cut = node.int("axis") % rank
    start = 0
    for output in node.outputs:
        for axis in range(rank):
            if axis != cut:
                links.same(Dimension(x, axis), Dimension(output, axis))
        start = _stretch(links, Dimension(output, cut), Dimension(x, cut), start)


def _stretch(links: Links, part: Dimension, whole: Dimension, start: int) -> int:
    """`part` is what `whole` holds from `start` on; returns where it ends. Unknown lengths are pinned."""
    if part.size is None or whole.size is None:
        links.pin(part, "its length is not known")
        links.pin(whole, "its length is not known")
        return start
    every = np.arange(part.size)
    links.link(part, every, whole, start + every)
    return start + part.size


def slice_(node: Node, links: Links) -> None:
    """A stretch along each axis; where steps are not one, the axis is needed whole."""
    x, y = operand(node, 0), node.output
    assert x is not None
    found = slices_of(node)
    if found is None:
        return
    for axis in range(y.rank or 0):
        one, other = Dimension(x, axis), Dimension(y, axis)
        if axis not in found:
            links.same(one, other)
        elif found[axis][1] == 1:
            _stretch(links, other, one, found[axis][0])


def slices_of(node: Node) -> dict[int, tuple[int, int]] | None:
    """Start and step of each axis that a Slice cuts; None where they are not known."""
    x = node.inputs[0]
    bounds = [None if v is None else v.constant for v in node.inputs[1:]]
    if (
        x is None
        or x.shape is None
        or any(b is None and v is not None for b, v in zip(bounds, node.inputs[1:], strict=True))
    ):
        return None
    starts, ends, axes, steps = (*bounds, None, None)[:4]
    assert starts is not None and ends is not None
    found = {}
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis = number if axes is None else int(axes[number]) % len(x.shape)
        step = 1 if steps is None else int(steps[number])
        length = x.shape[axis]
        if not isinstance(length, int):
            return None
        found[axis] = (slice(int(start), int(end), step).indices(length)[0], step)
    return found


def pad(node: Node, links: Links) -> None:
    """What is between the pads; an axis that gets none stays. Other modes than zeros need what they mirror whole."""
    x, pads, axes = operand(node, 0), node.input(1), node.input(3)
    assert x is not None
    y = node.output
    if pads is None or pads.constant is None or axes is not None:
        return
    before, after = np.split(pads.constant, 2)
    for axis in range(y.rank or 0):
        one, other = Dimension(x, axis), Dimension(y, axis)
        if not before[axis] and not after[axis]:
            links.same(one, other)
        elif before[axis] >= 0 and after[axis] >= 0 and node.str("mode", "constant") == "constant":
            _stretch(links, one, other, int(before[axis]))


def gather(node: Node, links: Links) -> None:
    """Chosen rows of a tensor; the rows of a table, chosen by what the user gives, are needed whole."""
    data, indices, y = operand(node, 0), operand(node, 1), node.output
    assert data is not None and indices is not None
    rank, count = value_of(data).rank or 0, value_of(indices).rank or 0
    chosen = node.int("axis") % rank
    for axis in range(rank):
        if axis != chosen:
            links.same(Dimension(data, axis), Dimension(y, axis if axis < chosen else axis + count - 1))
    if isinstance(indices, Value):
        for axis in range(count):
            links.same(Dimension(indices, axis), Dimension(y, chosen + axis))
        return
    picked, source = value_of(indices).constant, Dimension(data, chosen)
    if picked is not None and count == 1 and source.size is not None:
        links.link(Dimension(y, chosen), np.arange(picked.size), source, picked % source.size)
    elif picked is not None and count == 0:
        links.pin(source, f"'{node.origin.known_as(node.name)}' ({node.key}) takes one element of it")


def keeps_equal_axes(node: Node, links: Links) -> None:
    """Expand, Tile, Resize: an axis that comes out as long as it was is the same; others are needed whole."""
    x, y = operand(node, 0), node.output
    assert x is not None
    offset = (y.rank or 0) - (value_of(x).rank or 0)
    for axis in range(value_of(x).rank or 0):
        one, other = Dimension(x, axis), Dimension(y, axis + offset)
        if one.size is not None and one.size == other.size and (axis < 2 or not node.is_op("Resize")):
            links.same(one, other)


def depth_to_space(node: Node, links: Links) -> None:
    """A channel of the output is spread over block*block channels of the input."""
    x = operand(node, 0)
    assert x is not None
    _blocks(node, links, Dimension(x, 1), Dimension(node.output, 1), x)


def space_to_depth(node: Node, links: Links) -> None:
    x = operand(node, 0)
    assert x is not None
    _blocks(node, links, Dimension(node.output, 1), Dimension(x, 1), x)


def _blocks(node: Node, links: Links, deep: Dimension, flat: Dimension, x: Holder) -> None:
    links.same(dimension(x, 0), dimension(node.output, 0))
    if deep.size is None or flat.size is None:
        return
    every = np.arange(deep.size)
    per_channel = deep.size // flat.size
    spread = every // per_channel if node.str("mode", "DCR") == "CRD" else every % flat.size
    links.link(deep, every, flat, spread)
