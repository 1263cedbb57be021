"""Rules of operators that multiply and add: convolutions, matrix products, recurrences, attention."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.groups.elementwise import broadcast
from graphopt.analysis.groups.links import Dimension, Holder, Links, dimension, operand, value_of
from graphopt.analysis.macs import GATES
from graphopt.ir import Node


def conv(node: Node, links: Links) -> None:
    """X [N, C, ...], W [M, C/group, ...], B [M] -> Y [N, M, ...].

    Grouped convolutions of many narrow groups lose whole groups. Those of a few wide ones lose the same channels of
    every group, inputs and outputs independently.
    """
    x, w, y = operand(node, 0), operand(node, 1), node.output
    assert x is not None and w is not None
    links.same(dimension(x, 0), dimension(y, 0))
    made, used = _at(w, 0), _at(w, 1)
    links.same(made, dimension(y, 1))
    links.same(made, dimension(operand(node, 2), 0))
    _grouped(node, links, made=_at(y, 1), weights_made=made, used=_at(x, 1), weights_used=used)


def conv_transpose(node: Node, links: Links) -> None:
    """X [N, C, ...], W [C, M/group, ...], B [M] -> Y [N, M, ...]."""
    x, w, y = operand(node, 0), operand(node, 1), node.output
    assert x is not None and w is not None
    links.same(dimension(x, 0), dimension(y, 0))
    links.same(_at(w, 0), dimension(x, 1))
    links.same(dimension(operand(node, 2), 0), dimension(y, 1))
    links.sums_over(_at(w, 0))
    groups = node.int("group", 1)
    if groups == 1:
        links.same(_at(w, 1), dimension(y, 1))
        return
    channels, made = _at(x, 1), _at(y, 1)
    if channels.size is None or made.size is None:
        return
    links.read.discard(_at(w, 0))
    _whole_groups(links, groups, channels, made)


def _grouped(
    node: Node,
    links: Links,
    *,
    made: Dimension,
    weights_made: Dimension,
    used: Dimension,
    weights_used: Dimension,
) -> None:
    groups = node.int("group", 1)
    if groups == 1:
        links.same(weights_used, used)
        links.sums_over(weights_used)
        return
    if made.size is None or used.size is None:
        return
    wide = used.size // groups
    if groups >= wide:
        _whole_groups(links, groups, used, made)
        return
    columns = np.tile(np.arange(wide), groups)
    links.link(used, np.arange(used.size), weights_used, columns)
    links.sums_over(weights_used)
    outputs = made.size // groups
    for group in range(1, groups):
        links.link(made, np.arange(outputs), made, group * outputs + np.arange(outputs))


def _whole_groups(links: Links, groups: int, used: Dimension, made: Dimension) -> None:
    """Inputs and outputs of a group go together."""
    assert used.size is not None and made.size is not None
    wide, outputs = used.size // groups, made.size // groups
    first = np.arange(groups) * wide
    links.link(used, np.arange(used.size), used, np.repeat(first, wide))
    links.link(made, np.arange(made.size), used, np.repeat(first, outputs))


def matmul(node: Node, links: Links) -> None:
    """A [..., m, k], B [..., k, n] -> Y [..., m, n]."""
    a, b, y = operand(node, 0), operand(node, 1), node.output
    assert a is not None and b is not None
    if min(value_of(a).rank or 0, value_of(b).rank or 0) < 2:
        return
    links.same(dimension(a, -2), dimension(y, -2))
    links.same(dimension(b, -1), dimension(y, -1))
    inner = (_at(a, -1), _at(b, -2))
    links.same(*inner)
    for one in inner:
        links.sums_over(one)
    broadcast(links, [(holder, (value_of(holder).rank or 0) - 2) for holder in (a, b)], y, (y.rank or 0) - 2)


def gemm(node: Node, links: Links) -> None:
    """A [m, k], B [k, n], or transposed; C broadcast to Y [m, n]."""
    a, b, c, y = operand(node, 0), operand(node, 1), operand(node, 2), node.output
    assert a is not None and b is not None
    rows, inner = (1, 0) if node.int("transA") else (0, 1)
    inner_b, columns = (1, 0) if node.int("transB") else (0, 1)
    links.same(dimension(a, rows), dimension(y, 0))
    links.same(dimension(b, columns), dimension(y, 1))
    pair = (_at(a, inner), _at(b, inner_b))
    links.same(*pair)
    for one in pair:
        links.sums_over(one)
    if c is not None:
        broadcast(links, [(c, value_of(c).rank or 0)], y, 2)


def recurrence(node: Node, links: Links) -> None:
    """X [T, B, I], W [directions, gates*H, I], R [directions, gates*H, H], B [directions, 2*gates*H], ...

    A hidden unit goes with its rows in all gates of both directions, and its column in R.
    """
    x, w, r, b = (operand(node, index) for index in range(4))
    assert x is not None and w is not None and r is not None
    gates, hidden = GATES[node.op_type], _at(r, 2)
    units = hidden.size
    links.same(dimension(x, 2), dimension(w, 2))
    links.sums_over(_at(w, 2))
    links.sums_over(hidden)
    if units is None:
        return
    columns = np.arange(units)
    for holder, blocks in ((w, gates), (r, gates), (b, 2 * gates), (operand(node, 7), 3)):
        if holder is not None:
            links.link(_at(holder, 1), np.arange(blocks * units), hidden, np.tile(columns, blocks))
    for holder in (operand(node, 5), operand(node, 6), *node.outputs):
        if holder is not None and value_of(holder).rank:
            links.same(dimension(holder, -1), hidden)


def attention(node: Node, links: Links) -> None:
    """Q, K, V -> Y, of four axes [B, H, L, E] or of three [B, L, H*E]: heads go with their queries, keys and values."""
    query, key, value = (operand(node, index) for index in range(3))
    y = node.output
    assert query is not None and key is not None and value is not None
    links.same(dimension(query, 0), dimension(y, 0))
    if len(node.inputs) > 4 or len(node.outputs) > 1 or y.rank not in (3, 4):
        return
    if y.rank == 4:
        heads = [_at(holder, 1) for holder in (query, key, value, y)]
        counts = [(one, one.size, 1) for one in heads]
        links.same(dimension(value, 3), dimension(y, 3))
    else:
        of_queries, of_keys = node.int("q_num_heads", 1), node.int("kv_num_heads", 1)
        numbers = (of_queries, of_keys, of_keys, of_queries)
        last = [_at(holder, 2) for holder in (query, key, value, y)]
        counts = [(one, n, (one.size or 0) // n) for one, n in zip(last, numbers, strict=True)]
    fewest = counts[1][1]
    if fewest is None or any(count is None or count % fewest for _, count, _ in counts):
        return
    kv, _, kv_width = counts[1]
    for one, count, width in counts:
        assert count is not None and fewest is not None
        head = np.arange(count * width) // width // (count // fewest)
        links.link(one, np.arange(count * width), kv, head * kv_width)
    mask = operand(node, 3)
    if mask is not None and (value_of(mask).rank or 0) > 2 and _at(mask, -3).size != 1:
        head = np.arange(counts[0][1] or 0)
        links.link(_at(mask, -3), head, kv, head // ((counts[0][1] or 0) // fewest) * kv_width)


def einsum(node: Node, links: Links) -> None:
    """Every letter is one dimension."""
    terms, arrow, result = node.str("equation").replace(" ", "").partition("->")
    if not arrow or "." in terms:
        return
    seen: dict[str, Dimension] = {}
    holders = [operand(node, index) for index in range(len(node.inputs))]
    for letters, holder in zip([*terms.split(","), result], [*holders, node.output], strict=True):
        if holder is None or len(set(letters)) != len(letters):
            return
        for axis, letter in enumerate(letters):
            one = _at(holder, axis)
            links.same(seen.setdefault(letter, one), one)
            if letter not in result:
                links.sums_over(one)


def _at(holder: Holder, axis: int) -> Dimension:
    found = dimension(holder, axis)
    assert found is not None
    return found
