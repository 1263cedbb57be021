"""What the lowering is given."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Value
from graphopt.preparation import blocked_for, legalized
from graphopt.targets.device import load_target
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


@pytest.mark.parametrize(
    ("target", "layouts"),
    [
        ("x86-64-v4", {"NCHW8c", "NCHW16c/9"}),
        ("x86-64-v3", {"NCHW8c", "NCHW8c/9"}),
        ("x86-64-v2", {"NCHW4c", "NCHW4c/9"}),
        ("rpi4", {"NCHW4c", "NCHW4c/9"}),
        ("aarch64-v8.6", {"NCHW4c", "NCHW4c/9"}),
    ],
)
def test_few_channels_are_half_a_long_vector(target: str, layouts: set[str]) -> None:
    g = Draft()
    x = g.op("Conv", g.input(1, 3, 6, 6), g.weight(8, 3, 3, 3))
    g.output(g.op("Conv", x, g.weight(9, 8, 1, 1)))
    blocked = blocked_for(g.graph, load_target(target))
    assert {v.type.layout for v in blocked.values() if v.type and v.type.layout} == layouts
