"""A dense layer as two thinner ones.

Gemm(x, W [k, m], b)  -->  Gemm(Gemm(x, A [k, r]), B [r, m], b)          W = A B
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node
from graphopt.passes.pruning.refit import is_layer
from graphopt.rewrite import Builder


@dataclass(frozen=True)
class Dense:
    """A Gemm or MatMul with constant weights of two axes: `inputs` by `outputs`, read by so many `rows`."""

    node: Node
    inputs: int
    outputs: int
    rows: int

    @property
    def parameters(self) -> int:
        """Of the weights alone."""
        return self.inputs * self.outputs

    def factored(self, rank: int) -> int:
        """Parameters of two factors."""
        return rank * (self.inputs + self.outputs)

    @property
    def weights(self) -> np.ndarray:
        """As (inputs, outputs), in float64."""
        value = self.node.inputs[1]
        assert value is not None and value.constant is not None
        wide = value.constant.astype(np.float64)
        return wide.T if self._transposed else wide

    @property
    def _transposed(self) -> bool:
        return bool(self.node.int("transB"))

    @property
    def name(self) -> str:
        return self.node.origin.known_as(self.node.name)


def dense_layers(graph: Graph) -> list[Dense]:
    """Those of `graph` whose operand's shape is known, in order."""
    found = []
    for node in graph.nodes:
        x, value = node.input(0), node.input(1)
        if not node.is_op("Gemm", "MatMul") or not is_layer(node) or x is None or not x.is_static:
            continue
        assert value is not None and value.constant is not None
        inputs, outputs = value.constant.shape[:: -1 if node.int("transB") else 1]
        found.append(Dense(node, inputs, outputs, x.size // inputs))
    return found


def split(layer: Dense, rank: int) -> None:
    """Put two layers in the place of one whose weights are of that rank, in the graph."""
    node, weights = layer.node, layer.weights
    assert node.graph is not None
    first, second = factors(weights, rank)
    value = node.inputs[1]
    assert value is not None
    build = Builder(node.graph, node, node.origin)
    a, b = (build.const(data, like=value, name=value.name) for data in (first, second))
    inner = build.op(node.op_type, node.inputs[0], a, name=node.name)
    bias = node.input(2)
    made = build.op(node.op_type, inner, b, *([bias] if bias is not None else []), name=node.name)
    node.output.replace_uses(made)
    node.graph.remove(node)


def factors(weights: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A (inputs, rank) and B (rank, outputs) whose product is nearest; columns of A are as long as rows of B.

    From eigenvectors of the smaller Gram matrix, which takes a tenth of a singular value decomposition's time.
    """
    if weights.shape[0] < weights.shape[1]:
        first, second = factors(weights.T, rank)
        return second.T, first.T
    _, vectors = np.linalg.eigh(weights.T @ weights)
    leading = vectors[:, ::-1][:, :rank]
    first = weights @ leading
    roots = np.sqrt(np.maximum(np.linalg.norm(first, axis=0), np.finfo(np.float64).tiny))
    return first / roots, roots[:, None] * leading.T
