"""What a self-test knows of every layer: a checksum of its result, or a sum of it where floats round otherwise.

Integers in fixed point are the same everywhere: FNV-1a tells any difference. Floats, and integers that come from them,
depend on the order of sums; of those a weighted sum is compared, each element with a weight from 1 to `WEIGHTS`. Where
floats were rounded to integers on the way, some of these are a step off, and all that follows may be. Either way
costs the flash a few bytes. Inputs that a model quantises first are put on its steps, so that no rounding is close.

Source: Fowler, Noll, Vo, Eastlake, Hansen, "The FNV Non-Cryptographic Hash Algorithm", IETF draft, 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.runtime.reference import evaluate_node
from graphopt.targets.lower.support import PACKED

TOLERANCE = 1e-4
"""Of the sum of magnitudes: what another order of float sums may change."""

WEIGHTS = 7
STEPS_OFF = 8
"""Times the root of the number of elements: by how much integers that come from floats may change the weighted sum,
where a part of them is one step off, each with a weight of four on average."""

STEPS = 127
"""Of the largest element of floats behind such integers: what counts as a step of theirs."""

SUMMED = ("float32", "int8", "uint8", "int16", "uint16", "int32")
"""Types whose weighted sum is taken."""


@dataclass(frozen=True)
class Check:
    """Of the result of a layer: the checksum of its bytes, or the weighted sum and how far it may be off. `rounded`
    tells that floats became integers on the way, of which some may be a step off."""

    checksum: int | None = None
    total: float = 0.0
    bound: float = 0.0
    rounded: bool = False


def layer_checks(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[Value, Check]:
    """For each computed value of a fused graph; without empty ones, and of those whose last bits depend on an order
    without what is not finite or has a type that C cannot add. Nothing is known behind a recurrence whose weights are
    packed for its kernel."""
    arrays = {value: inputs[value.name] for value in graph.inputs}
    exact = {value: not value.dtype.is_float for value in graph.inputs}
    rounded: set[Value] = set()
    checks = {}
    for node in graph.nodes:
        operands = [None if v is None else arrays.get(v, v.constant) for v in node.inputs]
        is_known = all(v is None or a is not None for v, a in zip(node.inputs, operands, strict=True))
        if not is_known or any(member.key in PACKED for member in _members(node)):
            continue
        results = evaluate_node(node, operands)
        certain = _is_exact(node, exact)
        if not certain and (_rounds(node) or not rounded.isdisjoint(node.inputs)):
            rounded.update(node.outputs)
        for value, array in zip(node.outputs, results, strict=False):
            arrays[value], exact[value] = array, certain
            check = _check(array, certain, value in rounded)
            if check is not None:
                checks[value] = check
    return checks


def on_steps(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs, those that the graph quantises moved to the nearest number that is stored exactly."""
    moved = dict(inputs)
    for value in graph.inputs:
        for node in _quantisers(value):
            scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
            kind = node.output.dtype.numpy
            if scale is None or scale.constant is None or scale.constant.size != 1 or kind.name not in SUMMED:
                continue
            shift = 0 if zero is None or zero.constant is None else int(np.ravel(zero.constant)[0])
            step = np.ravel(scale.constant)[0]
            within = np.iinfo(kind.name)
            stored = np.clip(np.rint(moved[value.name] / step) + shift, within.min, within.max)
            moved[value.name] = ((stored - shift) * step).astype(moved[value.name].dtype)
    return moved


def _quantisers(value: Value) -> list[Node]:
    return [use.node for use in value.uses if use.node.is_op("QuantizeLinear")]


def _is_exact(node: Node, exact: Mapping[Value, bool]) -> bool:
    """It reads exact values or the model's inputs on their steps, and computes with integers alone."""
    nodes = _members(node)
    if all(n.is_op("QuantizeLinear") for n in nodes):
        return all(v is None or v.producer is None for v in node.inputs)
    made = [value for n in nodes for value in n.outputs]
    known = all(exact.get(v, True) for v in node.inputs if v is not None)
    return known and not any(value.dtype.is_float for value in made)


def _rounds(node: Node) -> bool:
    """It makes integers, of which some may be a step off."""
    return any(not value.dtype.is_float for member in _members(node) for value in member.outputs)


def _members(node: Node) -> list[Node]:
    return list(body_of(node).nodes) if is_fused(node) else [node]


def _check(array: np.ndarray, exact: bool, rounded: bool) -> Check | None:
    if not array.size:
        return None
    if exact:
        return Check(checksum=fnv1a(np.ascontiguousarray(array).tobytes()))
    if array.dtype.name not in SUMMED or not np.isfinite(array.astype(np.float32)).all():
        return None
    numbers = array.ravel().astype(np.float64)
    weighted = (1 + np.arange(numbers.size) % WEIGHTS) * numbers
    bound = TOLERANCE * float(np.abs(weighted).sum())
    if rounded:
        step = 1.0 if array.dtype.kind in "iu" else float(np.abs(numbers).max()) / STEPS
        bound = max(bound, STEPS_OFF * step * float(np.sqrt(numbers.size)))
    return Check(None, float(weighted.sum()), max(bound, float(np.finfo(np.float32).tiny)), rounded)


def rounded_outputs(checks: Mapping[Value, Check]) -> frozenset[str]:
    """The names of the graph's outputs that are `rounded`."""
    rounded = {value for value, check in checks.items() if check.rounded}
    graphs = {value.producer.graph for value in rounded if value.producer is not None}
    named = [
        pair for graph in graphs if graph for pair in zip(graph.output_names, graph.outputs, strict=True)
    ]
    return frozenset(name for name, value in named if value in rounded)


def fnv1a(data: bytes) -> int:
    """The hash of 32 bits."""
    found = 2166136261
    for byte in data:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found
