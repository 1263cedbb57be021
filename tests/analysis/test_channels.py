"""Where channels are: around convolutions, around products, and through what lies between."""

from __future__ import annotations

from graphopt.analysis.channels import channel_axes
from graphopt.ir import Value
from tests.passes.helpers import Draft, made


def axes(build: object) -> dict[str, int | None]:
    """Axis of the graph's inputs and of every node's first output, by operator."""
    graph = made(build)  # type: ignore[arg-type]
    found = channel_axes(graph)
    outputs = {node.op_type: found.get(node.output) for node in graph.nodes}
    return {**{value.name: found.get(value) for value in graph.inputs}, **outputs}


def image(g: Draft) -> Value:
    """Channels last in front, as TensorFlow exports it."""
    moved = g.op("Transpose", g.input(1, 5, 5, 3), perm=(0, 3, 1, 2))
    conv = g.op("Conv", moved, g.weight(4, 3, 1, 1))
    act = g.op("Mul", conv, g.op("Sigmoid", conv))
    return g.op("Gemm", g.op("Flatten", g.op("GlobalAveragePool", act)), g.weight(4, 2))


def rows(g: Draft) -> Value:
    x = g.input(1, 7, 4)
    normal = g.op("LayerNormalization", x, g.weight(4), axis=-1)
    return g.op("Add", x, g.op("Gelu", g.op("MatMul", normal, g.weight(4, 4))))


def test_of_images() -> None:
    assert axes(image) == {
        "x0": 3,
        "Transpose": 1,
        "Conv": 1,
        "Sigmoid": 1,
        "Mul": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


def test_of_rows() -> None:
    assert axes(rows) == {"x0": 2, "LayerNormalization": 2, "MatMul": 2, "Gelu": 2, "Add": 2}


def test_a_channel_that_is_broadcast_is_another_axis() -> None:
    """The addend of two axes says nothing of its own channels."""
    found = axes(
        lambda g: g.op("Add", g.op("Conv", g.input(1, 3, 4, 4), g.weight(2, 3, 1, 1)), g.input(4, 4))
    )
    assert found == {"x0": 1, "x1": None, "Conv": 1, "Add": 1}


def test_nothing_is_said_where_nothing_tells() -> None:
    assert axes(lambda g: g.op("Relu", g.input(2, 3))) == {"x0": None, "Relu": None}
