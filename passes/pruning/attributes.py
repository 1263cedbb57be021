"""Attributes and structural operands that say how many channels there are, written anew for those that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from graphopt.analysis.groups.links import Dimension, Holder, dimensions_of, operand, value_of
from graphopt.analysis.groups.moves import slices_of
from graphopt.ir import Node
from graphopt.passes.pruning.kept import Kept


def adapt(node: Node, kept: Kept) -> None:
    """Change `node`, in place, as its operands and outputs get narrower. Its constants are narrower already."""
    rule = _ADAPT.get(node.op_type) if not node.domain else None
    if rule is None:
        return
    held = [*(operand(node, index) for index in range(len(node.inputs))), *node.outputs]
    if any(
        kept.changes(dimension)
        for holder in held
        if holder is not None
        for dimension in dimensions_of(holder)
    ):
        rule(node, kept)


def _conv(node: Node, kept: Kept) -> None:
    """A filter of W [M, C/group, ...] sees so many channels: the groups follow."""
    x, weights = operand(node, 0), node.inputs[1]
    if node.int("group", 1) > 1 and x is not None and weights is not None:
        node.attributes["group"] = _size(kept, x, 1) // weights.static_shape[1]


def _conv_transpose(node: Node, kept: Kept) -> None:
    weights = node.inputs[1]
    if node.int("group", 1) > 1 and weights is not None:
        node.attributes["group"] = _size(kept, node.output, 1) // weights.static_shape[1]


def _group_normalization(node: Node, kept: Kept) -> None:
    before = kept.before(Dimension(node.output, 1))
    assert isinstance(before, int)
    node.attributes["num_groups"] = _size(kept, node.output, 1) * node.int("num_groups", 1) // before


def _recurrence(node: Node, kept: Kept) -> None:
    recurrent = node.inputs[2]
    assert recurrent is not None
    node.attributes["hidden_size"] = recurrent.static_shape[2]


def _attention(node: Node, kept: Kept) -> None:
    """Heads of three axes: their width stays."""
    for index, name in ((0, "q_num_heads"), (1, "kv_num_heads")):
        holder = operand(node, index)
        assert holder is not None
        if node.output.rank == 3:
            before = kept.before(Dimension(holder, 2))
            assert isinstance(before, int)
            node.attributes[name] = _size(kept, holder, 2) * node.int(name, 1) // before


def _split(node: Node, kept: Kept) -> None:
    axis = node.int("axis") % (node.output.rank or 1)
    sizes = [_size(kept, output, axis) for output in node.outputs]
    node.attributes.pop("num_outputs", None)
    _replace(node, 1, sizes)


def _slice(node: Node, kept: Kept) -> None:
    """The starts and ends of the same elements among those that stay."""
    x, found = operand(node, 0), slices_of(node)
    assert x is not None and found is not None
    axes = list(found)
    starts, ends = [], []
    for axis in axes:
        start, step = found[axis]
        one, other = Dimension(x, axis), Dimension(node.output, axis)
        if not kept.changes(one):
            starts.append(start)
            length, count = kept.before(one), kept.before(other)
            assert isinstance(length, int) and isinstance(count, int)
            end = start + count * step
            ends.append(end if end >= 0 else -length - 1)
            continue
        before = int(np.searchsorted(kept.indices(one), start))
        starts.append(before)
        ends.append(before + _size(kept, node.output, axis))
    for index, numbers in enumerate((starts, ends, axes, [found[axis][1] for axis in axes]), start=1):
        _replace(node, index, numbers)


def _reshape(node: Node, kept: Kept) -> None:
    """Numbers of axes that change; -1 and 0 stay, which follow by themselves."""
    target = node.inputs[1]
    assert target is not None and target.constant is not None
    numbers = target.constant.tolist()
    for axis, number in enumerate(numbers):
        if number > 0 and kept.changes(Dimension(node.output, axis)):
            numbers[axis] = _size(kept, node.output, axis)
    _replace(node, 1, numbers)


def _expand(node: Node, kept: Kept) -> None:
    target = node.inputs[1]
    assert target is not None and target.constant is not None
    numbers = target.constant.tolist()
    offset = (node.output.rank or 0) - len(numbers)
    for place, number in enumerate(numbers):
        if number > 1 and kept.changes(Dimension(node.output, place + offset)):
            numbers[place] = _size(kept, node.output, place + offset)
    _replace(node, 1, numbers)


def _resize(node: Node, kept: Kept) -> None:
    sizes = node.input(3)
    if sizes is not None and sizes.constant is not None and not node.ints("axes"):
        numbers = sizes.constant.tolist()
        for axis in range(len(numbers)):
            if kept.changes(Dimension(node.output, axis)):
                numbers[axis] = _size(kept, node.output, axis)
        _replace(node, 3, numbers)


def _pad(node: Node, kept: Kept) -> None:
    """Padded channels that go are pads that are not added."""
    x, pads = operand(node, 0), node.inputs[1]
    assert x is not None and pads is not None and pads.constant is not None
    rank = node.output.rank or 0
    numbers = pads.constant.tolist()
    for axis in range(rank):
        if kept.changes(Dimension(node.output, axis)):
            staying, before = kept.indices(Dimension(node.output, axis)), numbers[axis]
            numbers[axis] = int((staying < before).sum())
            numbers[axis + rank] = len(staying) - numbers[axis] - _size(kept, x, axis)
    _replace(node, 1, numbers)


def _gather(node: Node, kept: Kept) -> None:
    """The same elements by their new numbers."""
    data, indices = operand(node, 0), node.inputs[1]
    assert data is not None and indices is not None
    picked = indices.constant
    if picked is None or picked.ndim != 1:
        return
    source = Dimension(data, node.int("axis") % (value_of(data).rank or 1))
    made = Dimension(node.output, source.axis)
    if kept.changes(source):
        length = kept.before(source)
        assert isinstance(length, int)
        chosen = picked[kept.indices(made)] % length
        _replace(node, 1, np.searchsorted(kept.indices(source), chosen).tolist())
    elif kept.changes(made):
        _replace(node, 1, picked[kept.indices(made)].tolist())


def _size(kept: Kept, holder: Holder, axis: int) -> int:
    size = kept.size(Dimension(holder, axis))
    assert isinstance(size, int)
    return size


def _replace(node: Node, index: int, numbers: Sequence[int]) -> None:
    old = node.input(index)
    assert node.graph is not None
    dtype = np.int64 if old is None else old.dtype.numpy
    node.set_input(
        index, node.graph.add_constant(np.asarray(numbers, dtype), "sizes" if old is None else old.name)
    )


_ADAPT: Mapping[str, Callable[[Node, Kept], None]] = {
    "Attention": _attention,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Expand": _expand,
    "GRU": _recurrence,
    "Gather": _gather,
    "GroupNormalization": _group_normalization,
    "LSTM": _recurrence,
    "Pad": _pad,
    "RNN": _recurrence,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
}
"""By operator; others follow from their operands."""
