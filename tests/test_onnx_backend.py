"""ONNX's own node cases through the whole compiler: a fixed part of them, and the floor under its count.

`python -m bench.node_suite` runs all of them and prints the counts.
"""

from __future__ import annotations

from collections import Counter

import pytest

from bench.node_suite import cases, run_case

STRIDE = 29
CASES_KNOWN = 1884
"""How many cases the onnx that the floor was taken with generates."""

FLOOR = 59
"""Cases of the part that pass: compiled, or with nothing left to compute. It only ever rises."""


def test_the_floor_holds() -> None:
    if len(cases()) != CASES_KNOWN:
        pytest.skip(f"this onnx generates {len(cases())} cases, the floor is for {CASES_KNOWN}")
    results = [run_case(number) for number in range(0, CASES_KNOWN, STRIDE)]
    counts = Counter(outcome for _, _, outcome, _ in results)
    failures = [f"{name}: {outcome}: {reason}" for name, _, outcome, reason in results if reason]
    assert counts["crashed"] == 0, failures
    assert counts["passed_compiled"] + counts["passed_folded"] >= FLOOR, failures


def test_a_wrong_answer_is_seen() -> None:
    import numpy as np

    from bench.node_suite import mismatch

    want = np.array([1.0, 2.0], np.float32)
    assert mismatch((want,), [want], 1e-3, 1e-7) == ""
    assert "Mismatch" in mismatch((want * 1.01,), [want], 1e-3, 1e-7)
    assert "expected" in mismatch((want.astype(np.float64),), [want], 1e-3, 1e-7)
    assert "outputs" in mismatch((), [want], 1e-3, 1e-7)
