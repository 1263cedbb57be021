"""A fingerprint of what a graph computes, blind to names: equal graphs share one kernel."""

from __future__ import annotations

import hashlib

import numpy as np

from graphopt.ir.graph import Attribute, Graph
from graphopt.ir.value import Value


def structure_key(graph: Graph) -> str:
    """Hexadecimal digest of operators, attributes, types, constants and wiring; names do not count."""
    digest = hashlib.sha256()
    _feed(digest, graph, {})
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, graph: Graph, numbers: dict[Value, int]) -> None:
    def number(value: Value) -> None:
        numbers[value] = len(numbers)
        digest.update(f"|{value.type}".encode())

    digest.update(f"opset {graph.opset}".encode())
    for value in graph.inputs:
        number(value)
    for value in graph.constants:
        number(value)
        data = value.constant
        assert data is not None
        digest.update(data.tobytes() if data.dtype != object else repr(data.tolist()).encode())
    for node in graph.nodes:
        reads = [-1 if v is None else numbers[v] for v in node.inputs]
        digest.update(f";{node.key}{reads}".encode())
        for name in sorted(node.attributes):
            digest.update(f",{name}=".encode())
            _feed_attribute(digest, node.attributes[name], numbers)
        for value in node.outputs:
            number(value)
    digest.update(str([numbers[v] for v in graph.outputs]).encode())


def _feed_attribute(digest: hashlib._Hash, value: Attribute, numbers: dict[Value, int]) -> None:
    if isinstance(value, Graph):
        _feed(digest, value, numbers)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    else:
        digest.update(repr(value).encode())
