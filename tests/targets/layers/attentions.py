"""Attention as encoders spell it."""

from __future__ import annotations

from graphopt.ir import Value
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer


def split_heads(g: Draft, tokens: int, heads: int, width: int) -> list[Value]:
    """Queries, keys and values as an encoder makes them: one product, split, by heads."""
    whole = g.op("MatMul", g.input(2, tokens, 20), g.weight(20, 3 * heads * width))
    parts = g.ops("Split", whole, outputs=3, axis=2, num_outputs=3)
    shape = g.ints(2, tokens, heads, width)
    return [g.op("Transpose", g.op("Reshape", part, shape), perm=(0, 2, 1, 3)) for part in parts]


def attention_of_heads(g: Draft) -> Value:
    y = g.op("Attention", *split_heads(g, 21, 3, 12))
    return g.op("Reshape", g.op("Transpose", y, perm=(0, 2, 1, 3)), g.ints(2, 21, 36))


def attention_with_mask(g: Draft) -> Value:
    return g.op("Attention", *split_heads(g, 37, 2, 16), g.input(2, 1, 37, 37), scale=0.3)


def attention_of_past(g: Draft) -> Value:
    return g.op("Attention", *split_heads(g, 53, 2, 8), is_causal=1)


def attention_in_rows(g: Draft) -> Value:
    """Heads side by side, two of queries for each of keys, values wider than a vector."""
    operands = g.input(1, 9, 4 * 24), g.input(1, 130, 2 * 24), g.input(1, 130, 2 * 19)
    return g.op("Attention", *operands, q_num_heads=4, kv_num_heads=2)


def attention_of_one_head(g: Draft) -> Value:
    keys = g.op("Transpose", g.input(1, 1, 16, 70), perm=(0, 1, 3, 2))
    return g.op("Attention", g.input(1, 1, 6, 16), keys, g.input(1, 1, 70, 3))


def attention_of_lone_elements(g: Draft) -> Value:
    return g.op("Attention", g.input(1, 2, 7, 5), g.input(1, 2, 11, 5), g.input(1, 2, 11, 5), is_causal=1)


LAYERS: tuple[Layer, ...] = (
    attention_of_heads,
    attention_with_mask,
    attention_of_past,
    attention_in_rows,
    attention_of_one_head,
    attention_of_lone_elements,
)
