"""Operators that the reference evaluator does in its own way give what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.onnx_io.oracle import UNIT, check_same_meaning, one_node

random = np.random.default_rng(3)
X = random.normal(size=(2, 6, 5, 4)).astype(np.float32)
CASES = {
    "pad all sides": ("Pad", [X, np.array([0, 1, 2, 0, 1, 0, 0, 3])], {}),
    "pad with a value": ("Pad", [X, np.array([0, 1, 2, 0, 1, 0, 0, 3]), np.array(-1.5, np.float32)], {}),
    "pad and crop": ("Pad", [X, np.array([0, -1, 2, -1, 1, 0, -2, 3])], {}),
    "pad some axes": ("Pad", [X, np.array([1, -1, 2, 0]), None, np.array([-1, 1])], {}),
    "reflect": ("Pad", [X, np.array([0, 0, 2, 1, 0, 0, 1, 3])], {"mode": "reflect"}),
    "edge and crop": ("Pad", [X, np.array([0, 0, 2, -1, 0, 0, 1, 3])], {"mode": "edge"}),
    "wrap": ("Pad", [X, np.array([0, 0, 2, 1, 0, 0, 1, 3])], {"mode": "wrap"}),
    "pad integers": ("Pad", [np.arange(4), np.array([1, 2]), np.array(9)], {}),
    "one-hot": (
        "OneHot",
        [np.array([[0, -1, 3], [5, -4, 1]]), np.array([4]), np.array([2, 5], np.float32)],
        {"axis": 1},
    ),
    "one-hot floats": (
        "OneHot",
        [np.array([1.0, 7.0], np.float32), np.array(3.0, np.float32), np.array([0, 1], np.float32)],
        {},
    ),
    "gather elements": ("GatherElements", [X, random.integers(-4, 4, (2, 3, 5, 9))], {"axis": -1}),
    "gather elements of a long axis": (
        "GatherElements",
        [random.normal(size=(100, 3)).astype(np.float32), random.integers(-100, 100, (70, 2))],
        {},
    ),
    "lrn odd": ("LRN", [X], {"size": 3, "alpha": 0.1}),
    "lrn wider than the channels": ("LRN", [X], {"size": 15, "alpha": 0.5}),
    "group normalisation": (
        "GroupNormalization",
        [X, random.normal(size=6).astype(np.float32), random.normal(size=6).astype(np.float32)],
        {"num_groups": 2, "epsilon": 0.01},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_onnxruntime(name: str) -> None:
    operator, arrays, attributes = CASES[name]
    node = helper.make_node(operator, [], ["y"], **attributes)
    weights = {k: a for k, a in enumerate(arrays) if k and a is not None}
    model, feed = one_node(node, arrays, opset=21, weights=weights)
    check_same_meaning(model, feed, tolerance=64 * UNIT)  # sums of at most 60 numbers
