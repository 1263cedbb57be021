"""Operators that ONNX defines as functions."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Graph, TensorType, Value, verify
from graphopt.onnx_io.functions import function_graph
from graphopt.passes.expand_functions import ExpandFunctions
from graphopt.rewrite import Statistics
from tests.passes.helpers import UNIT, Build, Draft, check_fires, check_stays, made, outputs_of

PASS = "expand-functions{keep=Clip+Log+LogSoftmax+ReduceSum+Softmax}"
RULE = "expand-functions"


def moments(g: Draft) -> Value:
    return g.op("MeanVarianceNormalization", g.input(2, 3, 4), axes=(0, 2))


def loss(g: Draft) -> Value:
    """A body that depends on the inputs present, and on the attributes."""
    labels = g.const([0, 2, 1, 1], np.int64)
    return g.op(
        "SoftmaxCrossEntropyLoss", g.input(4, 3), labels, g.weight(3), reduction="sum", ignore_index=1
    )


def rotation(g: Draft) -> Value:
    """An optional operand in the middle is left out."""
    return g.op("RotaryEmbedding", g.input(1, 2, 3, 4), g.weight(1, 3, 2), g.weight(1, 3, 2), None)


def gate(g: Draft) -> Value:
    """LeakyRelu's slope is an attribute the body refers to."""
    return g.op("LeakyRelu", g.input(2, 3), alpha=0.3)


@pytest.mark.parametrize("build", [moments, gate])
def test_expands(build: Build, update_golden: bool) -> None:
    check_fires(PASS, RULE, build, f"functions_{build.__name__}", update_golden)


@pytest.mark.parametrize("build", [loss, rotation])
def test_computes_the_same(build: Build) -> None:
    graph = made(build)
    before = outputs_of(graph, {})
    statistics = Statistics()
    ExpandFunctions(keep=("Softmax",)).run(graph, statistics)
    verify(graph)
    assert statistics.fired[RULE]
    for name, after in outputs_of(graph, {}).items():
        np.testing.assert_allclose(after, before[name], rtol=0, atol=64 * UNIT * np.abs(before[name]).max())


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g: g.op("Softmax", g.input(2, 3)), "it is to be kept"),
        (
            lambda g: g.op("Conv", g.input(1, 3, 5, 5), g.weight(4, 3, 3, 3)),
            "does not define it as a function",
        ),
    ],
)
def test_stays(build: Build, reason: str) -> None:
    check_stays(PASS, RULE, build, reason)


def test_bodies_are_expanded_in_turn() -> None:
    """SoftmaxCrossEntropyLoss is made of LogSoftmax and NegativeLogLikelihoodLoss, which are functions too."""
    draft = Draft()
    draft.output(loss(draft))
    ExpandFunctions().run(draft.graph, Statistics())
    operators = {node.op_type for node in draft.graph.nodes}
    assert not operators & {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "LogSoftmax"}


def test_nodes_keep_their_source() -> None:
    graph = Graph("case", opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (2, 3)))
    node = graph.add("Mish", [x], types=[x.type], name="activation")
    graph.add_output(node.output)
    ExpandFunctions(keep=("Softplus",)).run(graph, Statistics())
    assert [n.op_type for n in graph.nodes] == ["Softplus", "Tanh", "Mul"]
    assert {n.origin.sources for n in graph.nodes} == {("activation",)}
    assert {n.origin.rule for n in graph.nodes} == {RULE}


def test_a_body_that_depends_on_an_unknown_type_is_not_made() -> None:
    graph = Graph("case", opset=24)
    x = graph.add_input("x", None)
    node = graph.add("Softmax", [x])
    assert function_graph(node) is None
