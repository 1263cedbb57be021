"""Quantisation written into the graph, with QuantizeLinear and DequantizeLinear.

    Conv(x, W, b) -> Relu  -->  Q(Relu(Conv(DQ(x'), DQ(W'), DQ(b'))))

The graph stays one of standard operators, which any run time can check; what computes in integers comes later.
Where integers go is in `quantization/placement.py`, their scales in `quantization/parameters.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from graphopt.analysis.ranges import Range, Ranges
from graphopt.analysis.ranges_file import load_ranges
from graphopt.errors import UsageError
from graphopt.ir import Graph, Node, Value
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.passes.quantization.dynamic import DynamicProducts
from graphopt.passes.quantization.insert import Activations
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.lookups import quantise_lookup
from graphopt.passes.quantization.operators import RECURRENT, is_lookup
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.products import quantise_product
from graphopt.passes.quantization.recurrent import quantise_recurrence, with_first_states
from graphopt.passes.quantization.scheme import Scheme, parse_scheme
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Quantize(Pass):
    """Quantise layers by a scheme, with ranges from a file that calibration wrote."""

    name: ClassVar[str] = "quantize"
    scheme: str = "int8"
    ranges: str = ""
    exclude: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        scheme = parse_scheme(self.scheme)
        if not self.ranges and scheme.activation_type is not None:
            hint = "write quantize{ranges=FILE.json}, or use `graphopt quantize`"
            raise UsageError(f"scheme '{scheme}' needs the ranges of activations", hint=hint)
        ranges = load_ranges(self.ranges) if self.ranges else Ranges({})
        ranges.check(graph)
        layers = layers_of(graph, scheme, self.exclude)
        statistics.fired[self.name] += len(layers)
        insert_quantization(graph, layers, bounds_of(ranges), ranges.left_out)


def bounds_of(ranges: Mapping[str, Range]) -> dict[str, Bounds]:
    """The least and the greatest number of each whole value."""
    return {name: (float(r.low.min()), float(r.high.max())) for name, r in ranges.items()}


def insert_quantization(
    graph: Graph,
    layers: Mapping[Node, Scheme],
    bounds: Mapping[str, Bounds],
    left_out: Mapping[str, str] = NOTHING,
) -> dict[Value, np.ndarray]:
    """Quantise `layers`, nodes of `graph`, and what lies between them, in place.

    `bounds` are the least and the greatest number of each value by its name; `left_out` tells why others have none.
    Returns the float constants that stand behind what is dequantised, and behind constants of integers. Raises
    UsageError, also where a value without a range is needed.
    """
    activations = Activations(graph, layers, with_first_states(layers, bounds), left_out)
    dynamic = DynamicProducts()
    replaced: dict[Value, Value] = {}
    for node in list(graph.nodes):
        dtype = activations.placement.precision.get(node)
        if node in layers and is_lookup(node):
            replaced[node.output] = quantise_lookup(activations, node, layers[node])
        elif node in layers and layers[node].dynamic:
            node.output.replace_uses(dynamic.quantise(node, layers[node]))
        elif node in layers and node.is_op(*RECURRENT):
            replaced |= quantise_recurrence(activations, node, layers[node])
        elif node in layers:
            quantise_product(activations, node, layers[node])
        elif dtype is not None and not activations.runs_on_integers(node, dtype):
            activations.quantise_operands(node, dtype)
    for old, new in replaced.items():
        old.replace_uses(new)
    EliminateDeadCode().run(graph, Statistics())
    return activations.originals
