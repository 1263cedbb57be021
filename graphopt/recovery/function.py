"""A graph as a JAX function of its weights and inputs, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from graphopt.errors import UnsupportedError, UsageError, did_you_mean
from graphopt.ir import Graph, Node, Value
from graphopt.ir.structural import structural_inputs
from graphopt.recovery.operators import OPERATORS, why_not

Weights = dict[str, Any]
"""Arrays by the names of constants."""

STATISTICS = (3, 4)
"""Operands of BatchNormalization that are no weights."""


class GraphFunction:
    """`function(weights, sample)` returns the outputs for one sample, with the batch that the graph has.

    `weights` are the constants of floats that learning may change; those of nodes that `frozen` names stay. Where an
    output is a Softmax, `logits` returns what it reads in its place. Raises UnsupportedError, naming the node, for
    operators without a form in JAX, and UsageError for a name that fits no node.
    """

    def __init__(self, graph: Graph, frozen: Sequence[str] = ()) -> None:
        for node in graph.nodes:
            reason = why_not(node)
            if reason:
                where = f"node '{node.origin.known_as(node.name)}' ({node.key})"
                hint = "fit it in closed form alone: `graphopt prune` and `factorize` do"
                raise UnsupportedError(reason, where=where, hint=hint)
        self.graph = graph
        self._learned = {value.name: value for value in _weights(graph, frozen)}

    @property
    def weights(self) -> Weights:
        return {name: value.constant for name, value in self._learned.items()}

    def __call__(self, weights: Weights, sample: Mapping[str, Any]) -> list[Any]:
        return self._run(weights, sample, self.graph.outputs)

    def logits(self, weights: Weights, sample: Mapping[str, Any]) -> list[Any]:
        return self._run(weights, sample, [_before_softmax(value) for value in self.graph.outputs])

    def over_batches(self, logits: bool = True) -> Any:
        """The compiled function of samples along a new first axis."""
        return jax.jit(jax.vmap(self.logits if logits else self, in_axes=(None, 0)))

    def with_weights(self, weights: Weights) -> Graph:
        """A copy of the graph that holds `weights`."""
        copy = self.graph.clone()
        for value in copy.constants:
            if value.name in weights:
                old = value.constant
                assert old is not None
                value.constant = np.ascontiguousarray(np.asarray(weights[value.name]).astype(old.dtype))
        return copy

    def _run(self, weights: Weights, sample: Mapping[str, Any], wanted: Any) -> list[Any]:
        known: dict[Value, Any] = {value: sample[value.name] for value in self.graph.inputs}
        for node in self.graph.nodes:
            operands = [self._operand(value, weights, known) for value in node.inputs]
            made = OPERATORS[node.op_type](node, *operands)
            results = made if isinstance(made, list | tuple) else [made]
            known.update(zip(node.outputs, results, strict=False))
        return [self._operand(value, weights, known) for value in wanted]

    def _operand(self, value: Value | None, weights: Weights, known: Mapping[Value, Any]) -> Any:
        if value is None:
            return None
        if value.constant is None:
            return known[value]
        return weights[value.name] if value.name in self._learned else value.constant


def _weights(graph: Graph, frozen: Sequence[str]) -> list[Value]:
    """Constants of floats with more than one element that are computed with, and that no frozen node reads."""
    stay = {node for pattern in frozen for node in _fitting(graph, pattern)}
    found: dict[Value, None] = {}
    for node in graph.nodes:
        fixed = structural_inputs(node) | (set(STATISTICS) if node.is_op("BatchNormalization") else set())
        for index, value in enumerate(node.inputs):
            if value is None or value.constant is None or index in fixed:
                continue
            if any(use.node in stay for use in value.uses):
                continue
            if value.dtype.is_float and value.constant.size > 1:
                found[value] = None
    return list(found)


def _fitting(graph: Graph, pattern: str) -> list[Node]:
    """The nodes that a user calls so, `*` standing for any letters. Raises UsageError where there are none."""
    names = {node: {node.name, *node.origin.sources} for node in graph.nodes}
    found = [node for node, called in names.items() if any(fnmatchcase(name, pattern) for name in called)]
    if not found:
        known = sorted(set().union(*names.values()))
        hint = did_you_mean(pattern, known, f"nodes: {', '.join(known[:5])}")
        raise UsageError(f"there is no node '{pattern}'", where="freeze", hint=hint)
    return found


def _before_softmax(value: Value) -> Value:
    node = value.producer
    if node is not None and node.is_op("Softmax"):
        source = node.inputs[0]
        assert source is not None
        return source
    return value
