"""Products as matrices: the same numbers as the operators themselves, from odd shapes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Node
from graphopt.passes.rounding import matrices
from graphopt.runtime.reference import evaluate_node
from tests.passes.helpers import Draft

SAMPLES = 3
UNIT = float(np.finfo(np.float32).eps)

CONVOLUTIONS = {
    "plain": ((2, 5, 7, 6), (4, 5, 3, 3), {}),
    "strided": ((1, 3, 9, 8), (2, 3, 3, 2), {"strides": (2, 3), "pads": (1, 0, 2, 1)}),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 3), {"dilations": (2, 3), "auto_pad": "SAME_UPPER"}),
    "grouped": ((1, 6, 5, 5), (9, 2, 3, 3), {"group": 3, "pads": (1, 1, 1, 1)}),
    "depthwise": ((2, 4, 6, 5), (4, 1, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    "of rows": ((1, 3, 11), (5, 3, 4), {"strides": (2,)}),
}


def _convolution(name: str) -> Node:
    shape, weights, attributes = CONVOLUTIONS[name]
    draft = Draft()
    value = draft.op("Conv", draft.input(*shape), draft.weight(*weights), **attributes)
    assert value.producer is not None
    return value.producer


def _product(operator: str, shape: tuple[int, ...], **attributes: int) -> Node:
    draft = Draft()
    value = draft.op(operator, draft.input(*shape), draft.weight(6, 4), **attributes)
    assert value.producer is not None
    return value.producer


NODES = {
    **{name: lambda name=name: _convolution(name) for name in CONVOLUTIONS},
    "Gemm": lambda: _product("Gemm", (2, 6)),
    "Gemm, transposed": lambda: _product("Gemm", (2, 4), transB=1),
    "MatMul": lambda: _product("MatMul", (2, 3, 6)),
}


@pytest.mark.parametrize("name", NODES)
def test_rows_make_what_the_node_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = NODES[name]()
    monkeypatch.setattr(matrices, "CHUNK", 1)
    source, weights = node.inputs[0], node.inputs[1]
    assert source is not None and weights is not None and weights.constant is not None
    assert matrices.has_rows(node)
    x = np.random.default_rng(0).normal(size=(SAMPLES, *source.static_shape)).astype(np.float32)
    want = np.stack([evaluate_node(node, [sample, weights.constant])[0] for sample in x])
    rows = matrices.weight_rows(node, weights.constant)
    parts = [
        part @ rows.transpose(0, 2, 1) for _, part in matrices.operand_rows(node, x, weights.constant.shape)
    ]
    made = np.concatenate(parts, axis=1)
    limit = 4 * UNIT * rows.shape[-1] * np.abs(want).max()
    assert np.abs(made - matrices.result_rows(node, want)).max() <= limit
    assert np.abs(matrices.results_from_rows(node, made, want) - want).max() <= limit
    assert np.array_equal(matrices.weights_from_rows(node, rows, weights.constant.shape), weights.constant)


def test_other_products_have_no_rows() -> None:
    draft = Draft()
    several = draft.op("MatMul", draft.input(2, 3, 6), draft.weight(2, 6, 4))
    varying = draft.op("MatMul", draft.input(3, 6), draft.input(2, 6, 4))
    transposed = draft.op("Gemm", draft.input(6, 2), draft.weight(6, 4), transA=1)
    for value in (several, varying, transposed):
        assert value.producer is not None and not matrices.has_rows(value.producer)
