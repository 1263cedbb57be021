"""Operators of a quantised model that read floats: which, why, and what bytes would cost there.

LayerNormalization, Softmax, normalisations that are spelt out, what makes outputs of the model. The cost is the SQNR of
the outputs where the operands of all nodes of a kind are rounded to bytes over their range, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.analysis.macs import macs
from graphopt.ir import DType, Graph, Node
from graphopt.passes.quantization.islands import float_nodes
from graphopt.passes.quantization.layers import layer_name
from graphopt.passes.quantization.operators import data_operands, is_float
from graphopt.passes.quantization.parameters import SMALLEST_SCALE, for_range
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.scheme import Scheme
from graphopt.runtime.stacked import Operand, Operands, evaluate, run, stacks_of

SAMPLES = 4
WORK = 5e9
"""Multiplications after which kinds are not tried any more."""

VANISHING = 255 * SMALLEST_SCALE
"""Ranges below it have no scale in float32; their values stay as they are."""


@dataclass(frozen=True)
class Island:
    """Nodes of one operator that read floats for one reason; `sqnr` is that of the outputs, in dB, with bytes there.

    None where it was not measured.
    """

    operator: str
    nodes: tuple[str, ...]
    reason: str
    sqnr: float | None = None


def float_islands(
    graph: Graph,
    layers: Mapping[Node, Scheme],
    bounds: Mapping[str, Bounds],
    samples: Iterable[Mapping[str, np.ndarray]] = (),
) -> tuple[Island, ...]:
    """Those of a float graph whose `layers` are quantised, in the order of their first nodes."""
    kinds: dict[tuple[str, str], list[Node]] = {}
    for node, reason in float_nodes(graph, layers, bounds).items():
        kinds.setdefault((node.op_type, reason), []).append(node)
    found = [
        Island(operator, tuple(map(layer_name, nodes)), reason) for (operator, reason), nodes in kinds.items()
    ]
    few = [sample for sample, _ in zip(samples, range(SAMPLES), strict=False)]
    if not few or not found:
        return tuple(found)
    work = len(few) * sum(macs(node) or 0 for node in graph.nodes)
    tried = int(min(len(found), WORK // max(work, 1)))
    with np.errstate(all="ignore"):  # a variance in bytes may be zero, and its root divides
        exact = _outputs(graph, few, (), bounds)
        costs = [_sqnr(exact, _outputs(graph, few, nodes, bounds)) for nodes in list(kinds.values())[:tried]]
    return (*(replace(i, sqnr=cost) for i, cost in zip(found, costs, strict=False)), *found[tried:])


def _outputs(
    graph: Graph,
    samples: Sequence[Mapping[str, np.ndarray]],
    nodes: Sequence[Node],
    bounds: Mapping[str, Bounds],
) -> list[np.ndarray]:
    """With the operands of `nodes` in bytes."""
    chosen = set(nodes)

    def each(node: Node, operands: Operands, environment: Mapping) -> list[Operand]:  # type: ignore[type-arg]
        given = list(operands)
        if node in chosen:
            data = set(data_operands(node))
            for index, value in enumerate(node.inputs):
                operand = given[index]
                if value in data and operand is not None and operand.is_stack and is_float(value):
                    given[index] = Operand(_in_bytes(operand.data, bounds.get(value.name)), True)
        return evaluate(node, given, environment)

    return [output.data for output in run(graph, stacks_of(graph, samples), each)]


def _in_bytes(x: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    x = np.nan_to_num(x, posinf=0, neginf=0)
    low, high = bounds or (float(x.min()), float(x.max()))
    if high - low < VANISHING:
        return x
    parameters = for_range(low, high, DType.uint8, where="an operand")
    return parameters.dequantised(parameters.quantised(x))


def _sqnr(exact: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> float:
    """What is no number any more counts as zero."""
    floats = [(a.astype(np.float64), b) for a, b in zip(exact, made, strict=True) if a.dtype.kind == "f"]
    pairs = [(a, np.nan_to_num(b, posinf=0, neginf=0)) for a, b in floats]
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    signal = sum(float(np.square(a).sum()) for a, _ in pairs)
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else float("inf")
