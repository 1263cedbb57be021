"""Scaled dot-product attention and rotary position embedding.

    Y = softmax(Q K^T scale + bias) V

Stages: `heads` (an operand (B, S, H D) as (B, H, S, D)), `keys` (K transposed), `matmul`, `logits`, the stages of a
softmax, `matmul`. Sums and the softmax are kept in float32 or wider. A query that may attend to no key at all gets
zeros. Vaswani et al., "Attention Is All You Need" (2017); several query heads may share one key and value head
(Ainslie et al., "GQA", 2023); Su et al., "RoFormer" (2021).
"""

from __future__ import annotations

import math

from tvm import te, tirx

from graphopt.ir import DType, Node
from graphopt.targets.lower.softmax import exponentials
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    copied,
    dtype_of,
    shape_of,
    storage,
    wide_dtype,
    widen,
)

RAW, CAPPED, BIASED, PROBABILITIES = range(4)
"""What the output qk_matmul_output shows, by the attribute `qk_matmul_output_mode`."""


def attention(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    """Q (B, H, S, D), K (B, G, T, D), V (B, G, T, E), or each with its heads side by side in the last axis.

    H is a multiple of G. Outputs: Y like Q with E for D, the keys and the values with the past ones in front, and
    what `qk_matmul_output_mode` asks for.
    """
    q, k, v, mask, past_key, past_value, lengths = [*inputs, *[None] * 7][:7]
    assert q is not None and k is not None and v is not None
    query = _heads(q, node.int("q_num_heads"))
    keys = _behind_past(_heads(k, node.int("kv_num_heads")), past_key)
    values = _behind_past(_heads(v, node.int("kv_num_heads")), past_value)
    past = 0 if past_key is None else shape_of(past_key)[2]
    scores = _scores(node, query, keys)
    capped = _capped(node, scores)
    masking = _Masking(node, mask, lengths, past, shape_of(query)[2])
    logits = masking.apply(capped)
    probabilities = _softmax(logits, node.int("softmax_precision"), dtype_of(q), masked=masking.masks)
    y = _grouped_product(probabilities, values)
    shown = (scores, capped, logits, probabilities)[node.int("qk_matmul_output_mode")]
    result = _merged(y, dtype_of(q)) if len(shape_of(q)) == 3 else _cast(y, dtype_of(q))
    # An output is a tensor of its own: an operand, or a stage that others read, is not one.
    return [result, copied(keys), copied(values), _cast(copied(shown), dtype_of(q))]


def _heads(x: te.Tensor, count: int) -> te.Tensor:
    """(B, S, H D) -> (B, H, S, D)."""
    if len(shape_of(x)) == 4:
        return x
    batch, length, hidden = shape_of(x)
    size = hidden // count
    return te.compute((batch, count, length, size), lambda b, h, s, d: x(b, s, h * size + d), name="heads")


def _merged(y: te.Tensor, dtype: str) -> te.Tensor:
    """(B, H, S, D) -> (B, S, H D)."""
    batch, count, length, size = shape_of(y)
    return te.compute(
        (batch, length, count * size),
        lambda b, s, c: y(b, tirx.indexdiv(c, size), s, tirx.indexmod(c, size)).astype(dtype),
        name="merged",
    )


def _behind_past(x: te.Tensor, past: te.Tensor | None) -> te.Tensor:
    if past is None:
        return x
    batch, count, length, size = shape_of(x)
    before = shape_of(past)[2]
    return te.compute(
        (batch, count, before + length, size),
        lambda b, h, s, d: tirx.if_then_else(s < before, past(b, h, s, d), x(b, h, s - before, d)),
        name="present",
    )


def _scores(node: Node, query: te.Tensor, keys: te.Tensor) -> te.Tensor:
    """Q K^T scale, (B, H, S, T)."""
    batch, count, length, size = shape_of(keys)
    transposed = te.compute((batch, count, size, length), lambda b, h, d, t: keys(b, h, t, d), name="keys")
    products = _grouped_product(query, transposed)
    scale = tirx.const(node.float("scale", 1 / math.sqrt(size)), products.dtype)
    return te.compute(products.shape, lambda *i: products(*i) * scale, name="scores")


def _grouped_product(left: te.Tensor, right: te.Tensor) -> te.Tensor:
    """(B, H, I, K) x (B, G, K, J) -> (B, H, I, J): each of the G is used by H / G neighbours."""
    batch, count, rows, inner = shape_of(left)
    share = count // shape_of(right)[1]
    wide = wide_dtype(dtype_of(left))
    k = te.reduce_axis((0, inner), "rk")

    def element(b: Expr, h: Expr, i: Expr, j: Expr) -> Expr:
        group = h if share == 1 else tirx.indexdiv(h, share)
        return te.sum(left(b, h, i, k).astype(wide) * right(b, group, k, j).astype(wide), axis=k)

    return te.compute((batch, count, rows, shape_of(right)[3]), element, name="matmul")


def _capped(node: Node, scores: te.Tensor) -> te.Tensor:
    """softcap tanh(scores / softcap)."""
    if node.float("softcap", 0.0) <= 0:
        return scores
    cap = tirx.const(node.float("softcap"), scores.dtype)
    return te.compute(scores.shape, lambda *i: cap * tirx.tanh(scores(*i) / cap), name="capped")


class _Masking:
    """Which keys a query may attend to, and what is added to its scores.

    Query i stands at position i + offset among the keys, where `offset` is the number of those in front of the
    queries: the past ones, or what the batch's own length leaves.
    """

    def __init__(
        self, node: Node, mask: te.Tensor | None, lengths: te.Tensor | None, past: int, queries: int
    ) -> None:
        self.causal = bool(node.int("is_causal"))
        self.left = node.int("left_window_size", -1)
        self.right = node.int("right_window_size", -1)
        self.mask = mask
        self.lengths = lengths
        self.past = past
        self.queries = queries

    @property
    def masks(self) -> bool:
        given = self.mask is not None or self.lengths is not None
        return given or self.causal or self.left >= 0 or self.right >= 0

    def apply(self, scores: te.Tensor) -> te.Tensor:
        """The scores with what is added to them, minus infinity where a key is hidden."""
        if not self.masks:
            return scores
        hidden = tirx.const(-math.inf, scores.dtype)

        def element(*i: Expr) -> Expr:
            value = scores(*i)
            if self.mask is not None and dtype_of(self.mask) != "bool":
                value = value + self._mask_at(self.mask, i, hidden).astype(scores.dtype)
            tests = self._tests(*i)
            return tirx.Select(tirx.all(*tests), value, hidden) if tests else value

        return te.compute(scores.shape, element, name="logits")

    def _tests(self, b: Expr, h: Expr, i: Expr, j: Expr) -> list[Expr]:
        length = None if self.lengths is None else self.lengths(b).astype("int32")
        place = i + (self.past if length is None else length - self.queries)
        tests = [] if length is None else [j < length]
        if self.causal:
            tests.append(j <= place)
        if self.left >= 0:
            tests.append(place - j <= self.left)
        if self.right >= 0:
            tests.append(j - place <= self.right)
        if self.mask is not None and dtype_of(self.mask) == "bool":
            tests.append(self._mask_at(self.mask, (b, h, i, j), tirx.const(False, "bool")))
        return tests

    def _mask_at(self, mask: te.Tensor, indices: tuple[Expr, ...], beyond: Expr) -> Expr:
        """The mask of a score; a mask may end before the keys do."""
        *shape, length = shape_of(mask)
        lead = [0 if dim == 1 else i for dim, i in zip(shape, indices[3 - len(shape) : 3], strict=True)]
        read = mask(*lead, indices[3])
        if dtype_of(mask) != "bool":
            read = widen(read)
        return tirx.if_then_else(indices[3] < length, read, beyond.astype(dtype_of(read)))


def _softmax(logits: te.Tensor, precision: int, dtype: str, *, masked: bool) -> te.Tensor:
    """The softmax over the last axis, as `dtype`; with `masked`, zeros where all is minus infinity."""
    wanted = storage(DType.of(precision)) if precision else logits.dtype
    if wanted == "float64" and logits.dtype != "float64":
        logits = _cast(logits, "float64")
    _, powers, total = exponentials(logits, 3, masked=masked)
    return te.compute(
        logits.shape,
        lambda b, h, i, j: (powers(b, h, i, j) / total(b, h, i, 0)).astype(dtype),
        name="softmax",
    )


def _cast(x: te.Tensor, dtype: str) -> te.Tensor:
    if dtype_of(x) == dtype:
        return x
    return te.compute(x.shape, lambda *i: x(*i).astype(dtype), name="cast")


def rotary_embedding(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (B, H, S, D) or (B, S, H D): the first R elements of each head turned, pair by pair, by their position's angle.

        (x1, x2)  -->  (cos x1 - sin x2, sin x1 + cos x2)

    A pair is (d, d + R / 2), or two neighbours with `interleaved`. cos and sin are (B, S, R / 2), or (P, R / 2) read
    at `position_ids` (B, S).
    """
    x, cos, sin, positions = [*inputs, None][:4]
    assert x is not None and cos is not None and sin is not None
    rank = len(shape_of(x))
    size = shape_of(x)[3] if rank == 4 else shape_of(x)[2] // node.int("num_heads")
    turned = node.int("rotary_embedding_dim") or size
    half, interleaved = turned // 2, bool(node.int("interleaved"))
    dtype = dtype_of(x)

    def angle(cache: te.Tensor, b: Expr, s: Expr, r: Expr) -> Expr:
        if positions is None:
            return widen(cache(b, s, r))
        return widen(cache(positions(b, s).astype("int32"), r))

    def element(*i: Expr) -> Expr:
        b, s = i[0], i[rank - 2]
        d = i[3] if rank == 4 else tirx.indexmod(i[2], size)
        if interleaved:
            pair, first = tirx.indexdiv(d, 2), tirx.EQ(tirx.indexmod(d, 2), 0)
            step = tirx.Select(first, tirx.const(1, "int32"), tirx.const(-1, "int32"))
        else:
            pair, first = tirx.indexmod(d, half), d < half
            step = tirx.Select(first, tirx.const(half, "int32"), tirx.const(-half, "int32"))
        own, other = widen(x(*i)), widen(x(*i[:-1], i[-1] + step))
        side = angle(sin, b, s, pair) * other
        value = angle(cos, b, s, pair) * own + tirx.Select(first, -side, side)
        result = value.astype(dtype)
        return result if turned == size else tirx.if_then_else(d < turned, result, x(*i))

    return te.compute(x.shape, element, name="rotary")


LOWERINGS: dict[str, Lowering] = {"Attention": attention, "RotaryEmbedding": rotary_embedding}
