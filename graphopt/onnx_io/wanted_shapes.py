"""What shapes do the operands of an operator need beside each other? One rule for each kind of operator.

A rule gives numbers of operands and the shapes that ONNX's specification wants of them; each is checked before the
rule goes on, so that later lines may rely on ranks that earlier ones asked for. None stands for a dimension, or for
an operand, of which nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from graphopt.ir import Node

Shape = tuple[int | None, ...]
Shapes = list[Shape | None]
"""Of the operands; None for those left out, or of unknown rank. The first two are always known."""

Wanted = Iterator[tuple[int, Shape]]
Rule = Callable[[Node, Shapes, Shape | None], Wanted]
"""Of a node, its operands' shapes, and that of its first output."""


def _any(rank: int) -> Shape:
    return (None,) * rank


def _times(dim: int | None, factor: int) -> int | None:
    return None if dim is None else dim * factor


def _broadcast(shape: Shape | None, target: Shape) -> Shape:
    """What an operand should be that is stretched to `target`, and nothing else."""
    if shape is None or len(shape) > len(target):
        return target
    ends = target[len(target) - len(shape) :]
    return tuple(1 if dim == 1 else end for dim, end in zip(shape, ends, strict=True))


def _convolution(
    node: Node, shapes: Shapes, result: Shape | None, *, weights: int = 1, bias: int | None = 2
) -> Wanted:
    x, w = shapes[0], shapes[weights]
    if x is None or w is None:
        return
    group, spatial = int(node.attributes.get("group", 1)), len(x) - 2
    yield weights, _any(len(x))
    yield weights, (None, None, *node.attributes.get("kernel_shape", _any(spatial)))
    yield 0, (None, _times(w[1], group), *_any(spatial))
    if w[0] is not None and group > 0:
        yield weights, (math.ceil(w[0] / group) * group, *_any(len(w) - 1))
    if bias is not None:
        yield bias, (w[0],)


def _transposed_convolution(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    x, w = shapes[0], shapes[1]
    assert x is not None and w is not None
    group, spatial = int(node.attributes.get("group", 1)), len(x) - 2
    yield 1, _any(len(x))
    yield 1, (x[1], None, *node.attributes.get("kernel_shape", _any(spatial)))
    if x[1] is not None and group > 0:
        yield 0, (None, math.ceil(x[1] / group) * group, *_any(spatial))
    yield 2, (_times(w[1], group),)


def _deformable_convolution(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    yield from _convolution(node, shapes, result, bias=3)
    x, w = shapes[0], shapes[1]
    assert x is not None and w is not None
    places = _any(len(x) - 2) if result is None else result[2:]
    taps = math.prod(dim for dim in w[2:] if dim is not None) * int(node.attributes.get("offset_group", 1))
    known = None not in w[2:]
    yield 2, (x[0], taps * (len(x) - 2) if known else None, *places)
    yield 4, (x[0], taps if known else None, *places)


def _per_channel(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    x = shapes[0]
    assert x is not None
    yield 0, _any(max(len(x), 2))
    yield 1, (x[1],)
    yield 2, (x[1],)


def _stretched(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """Scales, biases and slopes are stretched to the first operand."""
    for index, shape in enumerate(shapes[1:], 1):
        assert shapes[0] is not None
        yield index, _broadcast(shape, shapes[0])


def _gemm(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    if result is not None and len(shapes) > 2:
        yield 2, _broadcast(shapes[2], result)


def _recurrent(node: Node, shapes: Shapes, result: Shape | None, *, gates: int) -> Wanted:
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    batch_first = bool(node.attributes.get("layout", 0))
    yield 0, _any(3)
    yield 1, _any(3)
    yield 2, _any(3)
    x, recurrent = shapes[0], shapes[2]
    assert x is not None
    batch = x[0 if batch_first else 1]
    hidden = node.attributes.get("hidden_size", None if recurrent is None else recurrent[2])
    rows = _times(hidden, gates)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    yield 1, (directions, rows, x[2])
    yield 2, (directions, rows, hidden)
    yield 3, (directions, _times(rows, 2))
    yield 4, (batch,)
    yield 5, state
    yield 6, state
    yield 7, (directions, _times(hidden, 3))


def _elements(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """Indices lie within the data but for the axis; updates are as many as the indices."""
    data, indices = shapes[0], shapes[1]
    assert data is not None and indices is not None
    yield 1, _any(len(data))
    axis = int(node.attributes.get("axis", 0)) % max(len(data), 1)
    yield (
        1,
        tuple(
            i if d is None or i is None or k == axis else min(d, i)
            for k, (d, i) in enumerate(zip(data, indices, strict=True))
        ),
    )
    yield 2, indices


def _scatter_nd(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    data, indices = shapes[0], shapes[1]
    assert data is not None and indices is not None
    if indices and indices[-1] is not None:
        yield 2, (*indices[:-1], *data[indices[-1] :])


def _unpool(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    assert shapes[0] is not None
    yield 1, shapes[0]


def _quantize(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """One scale, or one for each element along the axis; as many zero points."""
    x, scale = shapes[0], shapes[1]
    assert x is not None and scale is not None
    if len(scale) == 1 and scale != (1,) and x:
        yield 1, (x[int(node.attributes.get("axis", 1)) % len(x)],)
    if scale not in ((), (1,)):
        yield 2, scale


def _quantized_product(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """One scale for a matrix, or one for each row of the first and of the result, and each column of the second."""
    a, b = shapes[0], shapes[3]
    if a is None or b is None:
        return
    yield 0, _any(max(len(a), 2))
    yield 3, _any(max(len(b), 2))
    rows, columns = (*a[:-1], 1), (*b[:-2], 1, b[-1])
    for scale, whole in ((1, rows), (4, columns), (6, rows)):
        wanted = _broadcast(shapes[scale], whole)
        yield scale, wanted
        yield scale + 1, wanted


def _short_time_fourier(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """Signals of real or complex numbers, and a window along the frame."""
    yield 0, _any(3)
    yield 2, _any(1)


def _einsum(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """A letter stands for one size, in whatever operand."""
    sizes: dict[str, int | None] = {}
    terms = str(node.attributes["equation"]).replace(" ", "").partition("->")[0].split(",")
    for index, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if shape is None or "..." in term:
            continue
        yield index, _any(len(term))
        yield index, tuple(d if d == 1 else sizes.get(letter) for letter, d in zip(term, shape, strict=True))
        sizes |= {letter: d for letter, d in zip(term, shape, strict=True) if d not in (1, None)}


def _reshape(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    x = shapes[0]
    assert x is not None
    if result is None or None in result or None in x:
        return
    if math.prod(d for d in x if d is not None) != math.prod(d for d in result if d is not None):
        yield 0, result


def _attention(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """Queries and keys have heads of one size; keys and values are as many."""
    query, key = shapes[0], shapes[1]
    assert query is not None and key is not None
    yield 1, _any(len(query))
    yield 2, _any(len(query))
    inner = len(query) - 2
    yield 1, (query[0], *_any(inner), query[3] if len(query) == 4 else None)
    yield 2, (query[0], *key[1 : 1 + inner], None)


def _rotary(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """Half as many cosines and sines as there are elements to rotate: a table, or a row for each position."""
    x = shapes[0]
    assert x is not None
    batch, length, size = x[0], x[-2], x[-1]
    heads = int(node.attributes.get("num_heads", 0)) if len(x) == 3 else 1
    head = size // heads if size is not None and heads else None
    rotated = int(node.attributes.get("rotary_embedding_dim", 0)) or head
    half = None if rotated is None else rotated // 2
    table = (None, half) if node.input(3) is not None else (batch, length, half)
    yield 1, table
    yield 2, shapes[1] or table
    yield 3, (batch, length)


def _reverse_sequence(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    x = shapes[0]
    assert x is not None
    yield 1, (x[int(node.attributes.get("batch_axis", 1))],)


def _affine_grid(node: Node, shapes: Shapes, result: Shape | None) -> Wanted:
    """A matrix for each picture; the second operand is the size N, C, (D,) H, W of what is sampled."""
    size = shapes[1]
    assert size is not None
    yield 1, _any(1)
    if size[0] is not None:
        yield 0, (None, size[0] - 2, size[0] - 1)


RULES: dict[str, Rule] = {
    "AffineGrid": _affine_grid,
    "Attention": _attention,
    "Conv": _convolution,
    "ConvInteger": partial(_convolution, bias=None),
    "ConvTranspose": _transposed_convolution,
    "DeformConv": _deformable_convolution,
    "DequantizeLinear": _quantize,
    "Einsum": _einsum,
    "GRU": partial(_recurrent, gates=3),
    "GatherElements": _elements,
    "Gemm": _gemm,
    "GroupNormalization": _per_channel,
    "InstanceNormalization": _per_channel,
    "LSTM": partial(_recurrent, gates=4),
    "LayerNormalization": _stretched,
    "MaxUnpool": _unpool,
    "PRelu": _stretched,
    "QLinearConv": partial(_convolution, weights=3, bias=8),
    "QLinearMatMul": _quantized_product,
    "QuantizeLinear": _quantize,
    "RMSNormalization": _stretched,
    "RNN": partial(_recurrent, gates=1),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "RotaryEmbedding": _rotary,
    "ScatterElements": _elements,
    "STFT": _short_time_fourier,
    "ScatterND": _scatter_nd,
}
