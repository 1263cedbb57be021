"""Scaled dot-product attention spelt out of primitives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

RULE = "recognize-attention"
HEADS, TOKENS, WIDTH = 2, 3, 4
SCALE = 1 / math.sqrt(WIDTH)


def attention(
    g: Draft,
    *,
    scale: str = "product",
    mask: tuple[int, ...] | None = None,
    keep: np.ndarray | None = None,
    fill: float = -1e4,
    keys: tuple[int, ...] = (0, 1, 3, 2),
    axis: int = -1,
    batch: int | str = 1,
    values: int = HEADS,
) -> Value:
    """q k^T with the scale on the scores or on its factors; `keys` is the order of the keys' transpose."""
    shape: list[int | str] = [batch, HEADS, TOKENS, WIDTH]
    back = np.argsort((*keys[:-2], keys[-1], keys[-2]))
    q, k = g.input(*shape), g.input(*(shape[axis] for axis in back))
    v = g.input(batch, values, TOKENS, 5)
    k = g.op("Transpose", k, perm=keys)
    if scale == "factors":
        root = g.const(math.sqrt(SCALE))
        q, k = g.op("Mul", q, root), g.op("Mul", root, k)
    scores = g.op("MatMul", q, k)
    if scale == "product":
        scores = g.op("Mul", scores, g.const(SCALE))
    elif scale == "quotient":
        scores = g.op("Div", scores, g.const(1 / SCALE))
    if mask is not None:
        scores = g.op("Add", scores, g.input(*mask))
    if keep is not None:
        scores = g.op("Where", g.const(keep, np.bool_), scores, g.const(fill))
    return g.op("MatMul", g.op("Softmax", scores, axis=axis), v)


CAUSAL = np.tril(np.ones((1, 1, TOKENS, TOKENS), bool))


CASES: dict[str, Build] = {
    "plain": lambda g: attention(g, scale="none"),
    "product": lambda g: attention(g),
    "quotient": lambda g: attention(g, scale="quotient"),
    "factors": lambda g: attention(g, scale="factors"),
    "mask": lambda g: attention(g, mask=(TOKENS, TOKENS)),
    "padding_mask": lambda g: attention(g, mask=(1, 1, 1, TOKENS)),
    "causal_choice": lambda g: attention(g, keep=CAUSAL),
    "padding_choice": lambda g: attention(g, keep=np.array([[True, True, False]]), fill=-1e9),
    "turned_keys": lambda g: attention(g, keys=(0, 2, 3, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    check_fires(RULE, RULE, CASES[case], f"attention_{case}", update_golden)


def weights_are_output(g: Draft) -> Value:
    q, k, v = (g.input(1, HEADS, TOKENS, WIDTH) for _ in range(3))
    scores = g.op("Softmax", g.op("MatMul", q, g.op("Transpose", k, perm=(0, 1, 3, 2))))
    g.output(scores, g.op("MatMul", scores, v))
    return q


STAYS: dict[str, tuple[Build, str]] = {
    "dynamic": (lambda g: attention(g, batch="N"), "not static with four dimensions"),
    "over_queries": (lambda g: attention(g, axis=2), "softmax is not over the keys"),
    "broadcast_values": (lambda g: attention(g, values=1), "batch or heads of q, k and v differ"),
    "short_mask": (lambda g: attention(g, mask=(TOKENS, 1)), "does not cover every key"),
    "dynamic_mask": (lambda g: attention(g, mask=("N", TOKENS)), "the mask's shape is not known"),  # type: ignore[arg-type]
    "no_key_left": (lambda g: attention(g, keep=np.triu(CAUSAL, 1)), "a query is left without keys"),
    "weak_fill": (lambda g: attention(g, keep=CAUSAL, fill=-1.0), "-1 does not mask"),
    "short_choice": (lambda g: attention(g, keep=CAUSAL[..., :1]), "does not cover every key"),
    "weights_are_output": (weights_are_output, "is a graph output"),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    build, reason = STAYS[case]
    check_stays(RULE, RULE, build, reason)
