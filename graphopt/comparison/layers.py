"""Where two models part: the error of each inner value that both have.

Values are matched by name, in the graphs as the passes that fuse nothing leave them. Both run with those values tapped
(`graphopt.taps`), sample by sample. Of a value that is quantised at once, what comes back counts: it is what the rest
of the graph reads, and the saturation may stand for an activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

import graphopt.passes as passes
from graphopt.analysis.integers import BYTE
from graphopt.analysis.liveness import fixed_values
from graphopt.api import Progress, optimize
from graphopt.ir import Graph, Node, Value
from graphopt.metrics import Tally, metric_named
from graphopt.taps import TappedModel

MOVES = frozenset("Identity Reshape Flatten Squeeze Unsqueeze Transpose".split())
"""Operators whose output is as wrong as their input."""


@dataclass(frozen=True)
class LayerError:
    """How far the second model's `value` is from the first's: SQNR in decibels, infinite where nothing differs.

    `worst` is the largest difference over the largest magnitude; `quantised` whether the second model computes it
    from integers.
    """

    value: str
    operator: str
    sqnr: float
    worst: float
    quantised: bool


def layer_errors(
    first: Graph,
    second: Graph,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    progress: Progress | None = None,
) -> list[LayerError]:
    """The errors of the values in common, in the order of the first graph; empty where there are none."""
    graphs = [optimize(graph, passes.UNFUSED) for graph in (first, second)]
    known = {value.name: value for value in graphs[1].values()}
    pairs = [(value, known[value.name]) for value in _layers(graphs[0]) if value.name in known]
    pairs = [(a, b) for a, b in pairs if a.type == b.type]
    if not pairs:
        return []
    seen = {a.name: _as_read(b).name for a, b in pairs}
    models = [
        TappedModel(graph, names, progress=progress)
        for graph, names in zip(graphs, (list(seen), list(seen.values())), strict=True)
    ]
    tallies = {name: Tally(metric_named("sqnr")) for name in seen}
    scale, off = dict.fromkeys(seen, 0.0), dict.fromkeys(seen, 0.0)
    for index, sample in enumerate(samples):
        if progress:
            progress("comparing layers", index, index + 1)
        wanted, found = (model(sample) for model in models)
        for name, theirs in seen.items():
            a, b = (array.astype(np.float64)[np.newaxis] for array in (wanted[name], found[theirs]))
            tallies[name].add(b, a)
            scale[name] = max(scale[name], float(np.abs(a).max(initial=0.0)))
            off[name] = max(off[name], float(np.abs(a - b).max(initial=0.0)))
    return [
        LayerError(
            a.name,
            "" if a.producer is None else a.producer.op_type,
            _ratio(tallies[a.name].rows),
            off[a.name] / scale[a.name] if scale[a.name] else 0.0,
            b.producer is not None and _reads_integers(b.producer),
        )
        for a, b in pairs
        if tallies[a.name].samples
    ]


def _layers(graph: Graph) -> list[Value]:
    """What operators compute in floats from the inputs."""
    fixed = fixed_values(graph)
    return [
        value
        for node in graph.nodes
        if node.op_type not in MOVES and not node.is_op("QuantizeLinear", "DequantizeLinear")
        for value in node.outputs
        if value not in fixed and value.type is not None and value.is_static and value.dtype.is_float
    ]


def _as_read(value: Value) -> Value:
    """Behind QuantizeLinear and DequantizeLinear, where all who read it are the former."""
    if value.is_graph_output or not value.users:
        return value
    if not all(user.is_op("QuantizeLinear") for user in value.users):
        return value
    back = [user for user in value.users[0].output.users if user.is_op("DequantizeLinear")]
    return back[0].output if back and back[0].output.type == value.type else value


def _reads_integers(node: Node) -> bool:
    """Its first operand was quantised."""
    source = node.input(0)
    made = source.producer if source is not None else None
    if made is None or not made.is_op("DequantizeLinear"):
        return False
    stored = made.input(0)
    return stored is not None and stored.dtype.bits <= 2 * BYTE


def _ratio(rows: np.ndarray) -> float:
    """SQNR of all samples; minus infinity where the first model's value is zero throughout and the second's is not."""
    signal, noise, _ = rows.sum(axis=0)
    if not noise:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")
