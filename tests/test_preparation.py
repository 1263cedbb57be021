"""What the lowering is given."""

from __future__ import annotations

import numpy as np

from graphopt.ir import Value
from graphopt.preparation import legalized
from graphopt.targets.lower.support import unsupported
from tests.passes.helpers import Draft, made


def linear_attention(g: Draft) -> Value:
    """A function whose body holds a Scan."""
    g.graph.opset = 27
    q, k, v = (g.input(1, 3, 4) for _ in range(3))
    return g.ops("LinearAttention", q, k, v, outputs=2, q_num_heads=2, kv_num_heads=2, update_rule="linear")[
        0
    ]


def quantised_product(g: Draft) -> Value:
    weights = g.const(np.arange(-6, 6).reshape(4, 3), np.int8)
    return g.op("MatMul", g.input(2, 4), g.op("DequantizeLinear", weights, g.const(0.5)))


def test_a_scan_in_a_function_becomes_straight_code() -> None:
    graph = legalized(made(linear_attention))
    assert not [node for node in graph.all_nodes() if node.op_type in ("LinearAttention", "Scan")]
    assert not unsupported(graph)


def test_weights_become_floats() -> None:
    graph = legalized(made(quantised_product))
    assert [node.op_type for node in graph.nodes] == ["MatMul"]


def test_the_graph_itself_stays() -> None:
    graph = made(quantised_product)
    legalized(graph)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "MatMul"]
