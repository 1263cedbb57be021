"""Attention and rotary embedding against onnx.reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.targets.lower.kernels import Case, Outputs, assert_close, case, names, run_cases

RANDOM = np.random.default_rng(11)

TOLERANCE = 2e-6
"""float32: sums of at most 16 products of numbers around 1, an exponential, a division; 16 roundings of 2^-24."""

HALF_TOLERANCE = 2e-3
"""float16: the reference rounds Q, K, their product and the probabilities to 2^-11 each."""


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


Q, K, V = normal(2, 4, 5, 16), normal(2, 4, 7, 16), normal(2, 4, 7, 9)
GROUPED = normal(2, 2, 7, 16), normal(2, 2, 7, 9)
FLAT = normal(2, 5, 4 * 16), normal(2, 7, 2 * 16), normal(2, 7, 2 * 9)
PAST = normal(2, 4, 3, 16), normal(2, 4, 3, 9)
BOOL = RANDOM.integers(0, 2, (4, 5, 7)).astype(bool)
BOOL[1, 2] = False
FLOAT = np.where(BOOL, normal(4, 5, 7), -np.inf).astype(np.float32)
LENGTHS = np.asarray([3, 6])


def attention(*operands: np.ndarray | None, outputs: int = 4, **attributes: float) -> Case:
    return case("Attention", *operands, outputs=outputs, **attributes)


ATTENTION = [
    attention(Q, K, V, scale=0.3),
    attention(Q, *GROUPED, outputs=1),
    attention(*FLAT, q_num_heads=4, kv_num_heads=2),
    attention(Q, K, V, is_causal=1),
    attention(Q, K, V, BOOL, qk_matmul_output_mode=3),
    attention(Q, K, V, FLOAT, is_causal=1, qk_matmul_output_mode=2),
    attention(Q, K, V, BOOL[0, :1, :5], outputs=1),
    attention(Q, K, V, FLOAT[:, :, :5], outputs=1),
    attention(Q, K, V, None, *PAST, is_causal=1, softcap=1.5, qk_matmul_output_mode=1),
    attention(Q, K, V, None, None, None, LENGTHS, is_causal=1, outputs=1),
    attention(Q, K, V, BOOL, None, None, LENGTHS, outputs=1),
    attention(Q, K, V, outputs=1, softmax_precision=11),
    attention(Q.astype(np.float64), K.astype(np.float64), V.astype(np.float64), outputs=1),
]

X = normal(2, 3, 5, 8)
ANGLES = RANDOM.uniform(-np.pi, np.pi, (2, 5, 4)).astype(np.float32)
TABLE = RANDOM.uniform(-np.pi, np.pi, (11, 2)).astype(np.float32)
POSITIONS = RANDOM.integers(0, 11, (2, 5))

ROTARY = [
    case("RotaryEmbedding", X, np.cos(ANGLES), np.sin(ANGLES)),
    case("RotaryEmbedding", X, np.cos(ANGLES), np.sin(ANGLES), interleaved=1),
    case("RotaryEmbedding", X, np.cos(TABLE), np.sin(TABLE), POSITIONS, rotary_embedding_dim=4),
    case("RotaryEmbedding", normal(2, 5, 24), np.cos(ANGLES), np.sin(ANGLES), num_heads=3),
]

CASES = [*ATTENTION, *ROTARY]

HALF = [
    attention(*(x.astype(np.float16) for x in (Q, K, V)), outputs=1, is_causal=1),
    case("RotaryEmbedding", *(x.astype(np.float16) for x in (X, np.cos(ANGLES), np.sin(ANGLES)))),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases([*CASES, *HALF])


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_close(results[number], CASES[number], TOLERANCE)


@pytest.mark.parametrize("number", range(len(HALF)), ids=names(HALF))
def test_half_kernel(number: int, results: list[Outputs]) -> None:
    assert_close(results[len(CASES) + number], HALF[number], HALF_TOLERANCE)


def test_a_query_that_sees_no_key_gets_zeros(results: list[Outputs]) -> None:
    number = next(n for n, c in enumerate(CASES) if c.attributes.get("qk_matmul_output_mode") == 3)
    y, _, _, probabilities = results[number]
    assert not y[:, 1, 2].any() and not probabilities[:, 1, 2].any()
