"""MACs, FLOPs, bytes and parameters by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from graphopt.analysis.cost import Cost, cost_of, cost_of_graph
from graphopt.analysis.macs import flops, macs
from graphopt.ir import KERNEL, Attribute, DType, Graph, Node, TensorType
from graphopt.ir.fused import fuse_nodes
from graphopt.ir.layout import blocked_type

Shape = tuple[int | str, ...]


def node(
    op: str,
    inputs: Sequence[Shape | None],
    outputs: Sequence[Shape],
    attributes: Mapping[str, Attribute] | None = None,
    dtype: DType = DType.float32,
) -> Node:
    """One operator on graph inputs of the given shapes."""
    graph = Graph(opset=24)
    operands = [
        None if shape is None else graph.add_input(f"x{i}", TensorType(dtype, shape))
        for i, shape in enumerate(inputs)
    ]
    types = [TensorType(dtype, shape) for shape in outputs]
    return graph.add(op, operands, attributes, types=types)


PRODUCTS = {
    # 16 filters of 3 x 3 x 8 at 14 x 14 places
    "Conv": (node("Conv", [(1, 8, 14, 14), (16, 8, 3, 3)], [(1, 16, 14, 14)]), 16 * 14 * 14 * 8 * 9),
    "Conv with a batch": (node("Conv", [(5, 8, 9, 9), (4, 8, 1, 1)], [(5, 4, 9, 9)]), 5 * 4 * 81 * 8),
    "strided": (
        node("Conv", [(1, 3, 224, 224), (64, 3, 7, 7)], [(1, 64, 112, 112)], {"strides": (2, 2)}),
        118_013_952,  # the first layer of ResNet-18, as its tables say
    ),
    "depthwise": (
        node("Conv", [(1, 32, 10, 10), (32, 1, 3, 3)], [(1, 32, 10, 10)], {"group": 32}),
        32 * 100 * 9,
    ),
    "grouped": (
        node("Conv", [(1, 32, 10, 10), (64, 8, 3, 3)], [(1, 64, 10, 10)], {"group": 4}),
        64 * 100 * 8 * 9,
    ),
    "one axis": (node("Conv", [(1, 4, 50), (6, 4, 5)], [(1, 6, 46)]), 6 * 46 * 4 * 5),
    "ConvTranspose": (
        node("ConvTranspose", [(1, 16, 7, 7), (16, 8, 4, 4)], [(1, 8, 14, 14)], {"strides": (2, 2)}),
        16 * 49 * 8 * 16,  # each of the 16 x 49 elements is spread over 8 filters of 4 x 4
    ),
    "grouped ConvTranspose": (
        node("ConvTranspose", [(1, 16, 7, 7), (16, 2, 4, 4)], [(1, 8, 14, 14)], {"group": 4}),
        16 * 49 * 2 * 16,
    ),
    "ConvInteger": (
        node("ConvInteger", [(1, 8, 4, 4), (16, 8, 3, 3)], [(1, 16, 2, 2)], dtype=DType.int8),
        16 * 4 * 72,
    ),
    "QLinearConv": (
        node("QLinearConv", [(1, 8, 4, 4), (), (), (16, 8, 3, 3), (), (), (), ()], [(1, 16, 2, 2)]),
        16 * 4 * 72,
    ),
    "Gemm": (node("Gemm", [(3, 20), (20, 7), (7,)], [(3, 7)]), 3 * 20 * 7),
    "Gemm, A transposed": (node("Gemm", [(20, 3), (20, 7)], [(3, 7)], {"transA": 1}), 3 * 20 * 7),
    "MatMul": (node("MatMul", [(3, 20), (20, 7)], [(3, 7)]), 3 * 20 * 7),
    "batched": (node("MatMul", [(2, 4, 9, 16), (2, 4, 16, 9)], [(2, 4, 9, 9)]), 8 * 81 * 16),
    "broadcast": (node("MatMul", [(2, 4, 9, 16), (16, 9)], [(2, 4, 9, 9)]), 8 * 81 * 16),
    "vectors": (node("MatMul", [(16,), (16,)], [()]), 16),
    "QLinearMatMul": (node("QLinearMatMul", [(3, 20), (), (), (20, 7), (), (), (), ()], [(3, 7)]), 420),
    # 5 steps, batch 2, 4 gates of 6 x (3 + 6)
    "LSTM": (
        node("LSTM", [(5, 2, 3), (1, 24, 3), (1, 24, 6)], [(5, 1, 2, 6)], {"hidden_size": 6}),
        10 * 24 * 9,
    ),
    "LSTM both ways": (node("LSTM", [(5, 2, 3), (2, 24, 3), (2, 24, 6)], [(5, 2, 2, 6)]), 20 * 24 * 9),
    "GRU": (node("GRU", [(5, 2, 3), (1, 18, 3), (1, 18, 6)], [(5, 1, 2, 6)]), 10 * 18 * 9),
    "RNN": (node("RNN", [(5, 2, 3), (1, 6, 3), (1, 6, 6)], [(5, 1, 2, 6)]), 10 * 6 * 9),
    # 8 heads, 10 queries, 12 keys of 16; values of 32
    "Attention": (
        node("Attention", [(1, 8, 10, 16), (1, 8, 12, 16), (1, 8, 12, 32)], [(1, 8, 10, 32)]),
        8 * 10 * 12 * (16 + 32),
    ),
    "Attention of three axes": (
        node(
            "Attention",
            [(1, 10, 128), (1, 12, 64), (1, 12, 128)],
            [(1, 10, 256)],
            {"q_num_heads": 8, "kv_num_heads": 4},
        ),
        8 * 10 * 12 * (16 + 32),
    ),
    "Attention with a past": (
        node(
            "Attention",
            [(1, 8, 1, 16), (1, 8, 1, 16), (1, 8, 1, 16), None, (1, 8, 11, 16), (1, 8, 11, 16)],
            [(1, 8, 1, 16)],
        ),
        8 * 12 * 32,
    ),
    "Einsum": (node("Einsum", [(2, 3, 4), (2, 4, 5)], [(2, 3, 5)], {"equation": "bij,bjk->bik"}), 120),
    "Einsum with dots": (
        node("Einsum", [(7, 2, 3, 4), (1, 4, 5)], [(7, 2, 3, 5)], {"equation": "...ij, ...jk -> ...ik"}),
        7 * 2 * 60,
    ),
    "Relu": (node("Relu", [(4, 4)], [(4, 4)]), 0),
    "MaxPool": (node("MaxPool", [(1, 8, 4, 4)], [(1, 8, 2, 2)], {"kernel_shape": (2, 2)}), 0),
    "another domain": (Graph(opset=24).add("Conv", [], domain="com.example", types=[None]), 0),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_macs(case: str) -> None:
    made, want = PRODUCTS[case]
    assert macs(made) == want


OTHERS = {
    "two for a MAC, one for a bias": (node("Gemm", [(3, 20), (20, 7), (7,)], [(3, 7)]), 2 * 420 + 21),
    "no bias": (node("Gemm", [(3, 20), (20, 7)], [(3, 7)]), 840),
    "Conv with a bias": (node("Conv", [(1, 1, 3, 3), (2, 1, 3, 3), (2,)], [(1, 2, 1, 1)]), 2 * 18 + 2),
    "element-wise": (node("Exp", [(4, 5)], [(4, 5)]), 20),
    "broadcast": (node("Add", [(4, 5), (5,)], [(4, 5)]), 20),
    "three operands": (node("Max", [(5,), (5,), (5,)], [(5,)]), 10),
    "pool": (node("AveragePool", [(1, 8, 6, 6)], [(1, 8, 2, 2)], {"kernel_shape": (3, 3)}), 8 * 4 * 9),
    "global pool": (node("GlobalAveragePool", [(1, 8, 6, 6)], [(1, 8, 1, 1)]), 8 * 36),
    "reduction": (node("ReduceSum", [(3, 50)], [(3,)]), 150),
    "ArgMax": (node("ArgMax", [(3, 50)], [(3,)]), 150),
    "softmax": (node("Softmax", [(3, 50)], [(3, 50)]), 750),
    "batch normalisation": (node("BatchNormalization", [(1, 4, 5, 5)] + [(4,)] * 4, [(1, 4, 5, 5)]), 200),
    "LRN": (node("LRN", [(1, 4, 5, 5)], [(1, 4, 5, 5)], {"size": 5}), 100 * 13),
    "moves": (node("Transpose", [(4, 5)], [(5, 4)]), 0),
    "cast": (node("Cast", [(4, 5)], [(4, 5)]), 0),
}


@pytest.mark.parametrize("case", OTHERS)
def test_flops(case: str) -> None:
    made, want = OTHERS[case]
    assert flops(made) == want


def test_blocks_count_as_the_plain_tensor_does() -> None:
    """24 channels in blocks of 16: eight lanes are empty."""
    graph = Graph(opset=24)
    image = blocked_type(TensorType(DType.float32, (1, 24, 6, 6)), 16)
    x = graph.add_input("x", image)
    w = graph.add_constant(np.zeros((24, 24, 3, 3), np.float32), "w")
    b = graph.add_constant(np.zeros(24, np.float32), "b")
    conv = graph.add("Conv", [x, w, b], types=[image], domain=KERNEL)
    unpack = graph.add("Unpack", [x], types=[TensorType(DType.float32, (1, 24, 6, 6))], domain=KERNEL)
    assert macs(conv) == 24 * 36 * 24 * 9
    assert flops(conv) == 2 * 24 * 36 * 24 * 9 + 24 * 36
    assert (macs(unpack), flops(unpack)) == (0, 0)
    assert cost_of(conv).activation_bytes == 2 * 4 * 2 * 36 * 16


def test_packed_recurrent_weights_count_as_they_were() -> None:
    graph = Graph(opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (5, 2, 3)))
    w = graph.add_constant(np.zeros((1, 1, 4, 3, 16), np.float32), "w")
    r = graph.add_constant(np.zeros((1, 1, 6, 4, 16), np.float32), "r")
    types = [TensorType(DType.float32, (5, 1, 2, 6))]
    lstm = graph.add("LSTM", [x, w, r], {"hidden_size": 6}, types=types, domain=KERNEL)
    assert macs(lstm) == 10 * 24 * 9


def test_a_symbol_is_unknown_only_where_it_is_needed() -> None:
    conv = node("Conv", [("N", 8, 14, 14), (16, 8, 3, 3)], [("N", 16, 14, 14)])
    assert (macs(conv), flops(conv)) == (None, None)
    assert cost_of(conv).activation_bytes is None
    relu = node("Relu", [("N",)], [("N",)])
    assert (macs(relu), flops(relu)) == (0, None)


def test_a_branch_is_unknown() -> None:
    graph = Graph(opset=24)
    flag = graph.add_input("flag", TensorType(DType.bool, ()))
    x = graph.add_input("x", TensorType(DType.float32, (4,)))
    branches = {}
    for name in ("then_branch", "else_branch"):
        branches[name] = Graph(name, opset=24, parent=graph)
        branches[name].add_output(branches[name].add("Relu", [x], types=[x.type]).output)
    made = graph.add("If", [flag], branches, types=[x.type])
    assert (macs(made), flops(made)) == (None, None)
    assert cost_of(made).activation_bytes == 1 + 16 + 16  # the flag, the captured x, the result


@pytest.fixture
def graph() -> Graph:
    """Two products that share a weight of 10 x 10, a clip, a reshape."""
    graph = Graph(opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (3, 10)))
    w = graph.add_constant(np.zeros((10, 10), np.float32), "w")
    a = graph.add("MatMul", [x, w], types=[x.type], name="a").output
    b = graph.add("MatMul", [a, w], types=[x.type], name="b").output
    six = graph.add_constant(np.float32(6), "six")
    c = graph.add("Clip", [b, None, six], types=[x.type], name="c").output
    shape = graph.add_constant(np.array([30]), "shape")
    graph.add_output(graph.add("Reshape", [c, shape], types=[TensorType(DType.float32, (30,))]).output)
    return graph


def test_a_shared_weight_counts_once_in_the_graph(graph: Graph) -> None:
    assert cost_of(graph.node("a")) == Cost(300, 600, 240, 400, 100)
    assert cost_of_graph(graph).parameters == 101
    assert cost_of_graph(graph).weight_bytes == 404
    assert cost_of_graph(graph).macs == 600
    assert cost_of_graph(graph).flops == 1200 + 30


def test_a_shape_is_no_parameter(graph: Graph) -> None:
    reshape = next(n for n in graph.nodes if n.op_type == "Reshape")
    assert cost_of(reshape) == Cost(0, 0, 240, 0, 0)


def test_a_group_costs_what_its_members_do_and_moves_less(graph: Graph) -> None:
    apart = cost_of_graph(graph)
    group = fuse_nodes(graph, [graph.node("b"), graph.node("c")])
    assert cost_of(group) == Cost(300, 630, 240, 404, 101)
    together = cost_of_graph(graph)
    assert (together.macs, together.flops, together.parameters) == (600, 1230, 101)
    assert apart.activation_bytes == 4 * 240
    assert together.activation_bytes == 3 * 240


def test_elements_of_four_bits_are_packed() -> None:
    made = node("Transpose", [(3, 5)], [(5, 3)], dtype=DType.int4)
    assert cost_of(made).activation_bytes == 8 + 8
