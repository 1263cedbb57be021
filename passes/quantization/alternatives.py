"""A float graph whose layers can each be switched to quantised ones while it runs.

    Conv(x, W, b)  -->  Where(choice == 1, Conv(DQ(Q(x)), W', b), Conv(x, W, b))

`choices`, a new input, has a number for each layer: 0 is float, k the k-th scheme. One compilation then serves for as
many trials as there are assignments of schemes to layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.ir import DType, Graph, Node, Origin, TensorType, Value
from graphopt.passes.quantization.insert import RULE
from graphopt.passes.quantization.operators import RECURRENT, data_operands
from graphopt.passes.quantization.parameters import for_range
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.passes.quantization.weights import as_constants, codebook, weight_parameters
from graphopt.rewrite import Builder

CHOICES = "choices"


def with_alternatives(
    graph: Graph, layers: Sequence[Node], schemes: Sequence[Scheme], bounds: Mapping[str, Bounds]
) -> tuple[Graph, str]:
    """A copy of `graph` where each of `layers` may follow any of `schemes`, and the name of the new input."""
    copy = graph.clone()
    choices = copy.add_input(CHOICES, TensorType(DType.int64, (len(layers),)), unique=True)
    nodes = {node.name: node for node in copy.nodes}
    for number, layer in enumerate(layers):
        node = nodes[layer.name]
        if node.next is None:
            copy.add("Identity", [node.output], types=[node.output.type])
        build = Builder(copy, node.next, Origin(RULE, node.origin.sources))
        choice = build.op("Gather", choices, build.const(np.int64(number)), axis=0)
        readers = {value: value.uses for value in node.outputs}
        results = dict(zip(node.outputs, node.outputs, strict=True))
        for option, scheme in enumerate(schemes, 1):
            is_chosen = build.op("Equal", choice, build.const(np.int64(option)))
            made = _quantised(build, node, layer, scheme, bounds)
            for old, new in zip(node.outputs, made, strict=True):
                if old.uses or old.is_graph_output:
                    results[old] = build.op("Where", is_chosen, new, results[old])
        for old, uses in readers.items():
            for use in uses:
                use.node.set_input(use.index, results[old])
            for index, output in enumerate(copy.outputs):
                if output is old:
                    copy.set_output(index, results[old])
    return copy, choices.name


def _quantised(
    build: Builder, node: Node, original: Node, scheme: Scheme, bounds: Mapping[str, Bounds]
) -> tuple[Value, ...]:
    """`node` on what its quantised operands stand for; `original` reads values whose ranges are known."""
    operands: list[Value | None] = list(node.inputs)
    weights = weight_operands(node)
    for index, constant in weights.items():
        operands[index] = build.const(rounded_weights(node, constant, scheme), name=constant.name)
    dtype = scheme.activation_type
    if dtype is not None:
        for index, value in enumerate(node.inputs):
            if value is not None and value in data_operands(node) and index not in weights:
                name = original.inputs[index].name  # type: ignore[union-attr]
                parameters = for_range(*bounds[name], dtype, where=f"value '{name}'")
                constants = as_constants(build, parameters, name)
                integers = build.op("QuantizeLinear", value, *constants)
                operands[index] = build.op("DequantizeLinear", integers, *constants)
    return build.ops(node.op_type, *operands, outputs=len(node.outputs), **node.attributes)


def weight_operands(node: Node) -> dict[int, Value]:
    """The constant weights by their index."""
    places = (1, 2) if node.is_op(*RECURRENT) else (0, 1)
    found = {index: node.input(index) for index in places}
    return {
        index: value for index, value in found.items() if value is not None and value.constant is not None
    }


def rounded_weights(node: Node, weights: Value, scheme: Scheme) -> np.ndarray:
    """The weights that those quantised by `scheme` stand for."""
    assert weights.constant is not None
    if scheme.weights == "codebook":
        table, codes = codebook(weights.constant)
        return table[codes]
    if scheme.weights not in STORED:
        return weights.constant.astype(DType[scheme.weights].numpy).astype(np.float32)
    parameters = weight_parameters(node, weights, scheme)
    return parameters.dequantised(parameters.quantised(weights.constant))
