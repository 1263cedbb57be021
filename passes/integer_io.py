"""Inputs and outputs of a quantised model as integers: what the caller has and wants anyhow, in a quarter of the bytes.

    x (float) -> Q(s, z) -> ...      -->  x (uint8) -> ...                 all that read x quantise it alike
    ... -> DQ(s, z) -> y (float)     -->  ... -> y (uint8)
    ... -> y (float)                 -->  ... -> Q(s, z) -> y (uint8)      with `outputs`, whose range is known

Names stay; scales and zero points are in the operators behind the inputs and in front of the outputs, and in the header
of what is compiled. What is quantised by channel, or read as floats too, keeps its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Graph, Node, TensorType, Value
from graphopt.passes.quantization.parameters import Parameters
from graphopt.pipeline import Pass
from graphopt.rewrite import Builder, Statistics


@dataclass(frozen=True)
class IntegerIO(Pass):
    """Give a quantised model integers to read and to return.

    `outputs` tells how float ones become integers, by name.
    """

    name: ClassVar[str] = "integer-io"
    outputs: Mapping[str, Parameters] | None = None

    def run(self, graph: Graph, statistics: Statistics) -> None:
        for value in list(graph.inputs):
            statistics.tried[self.name] += 1
            statistics.fired[self.name] += _take_integers(graph, value)
        for index in range(len(graph.outputs)):
            statistics.tried[self.name] += 1
            statistics.fired[self.name] += self._return_integers(graph, index)
        graph.remove_unused_constants()

    def _return_integers(self, graph: Graph, index: int) -> bool:
        value = graph.outputs[index]
        producer = value.producer
        if producer is None or not value.dtype.is_float:
            return False
        if _is_of_tensor(producer, "DequantizeLinear") and _is_quantised(producer.inputs[0]):
            integers = producer.inputs[0]
            assert integers is not None
            _return(graph, index, integers)
            if not producer.output.uses and not producer.output.is_graph_output:
                graph.remove(producer)
            return True
        wanted = (self.outputs or {}).get(graph.output_names[index])
        if wanted is None:
            return False
        build = Builder(graph, None, producer.origin.merged(self.name, [producer]))
        scale = build.const(wanted.scale, name=f"{value.name}.scale")
        zero = build.const(wanted.zero_point, name=f"{value.name}.zero_point")
        _return(graph, index, build.op("QuantizeLinear", value, scale, zero))
        return True


def _return(graph: Graph, index: int, integers: Value) -> None:
    """In place of an output, whose name they take."""
    name, before = graph.output_names[index], graph.outputs[index]
    graph.set_output(index, integers)
    if before.name == name:
        graph.rename(before, f"{name}.float", keep_if_taken=True)
        graph.rename(integers, name, keep_if_taken=True)


def _take_integers(graph: Graph, value: Value) -> bool:
    readers = value.users
    if not readers or value.is_graph_output or not value.dtype.is_float:
        return False
    if not all(_is_of_tensor(node, "QuantizeLinear") for node in readers):
        return False
    first = readers[0]
    if any(_numbers(node) != _numbers(first) for node in readers):
        return False
    place, name = graph.inputs.index(value), value.name
    graph.rename(value, _free(graph, f"{name}.float"))
    integers = graph.add_input(name, TensorType(first.output.dtype, value.shape))
    graph.inputs.remove(integers)
    graph.inputs[place] = integers
    for node in readers:
        node.output.replace_uses(integers)
        graph.remove(node)
    return True


def _free(graph: Graph, name: str) -> str:
    """`name`, or a longer one that no value has."""
    taken = {value.name for value in graph.values()}
    while name in taken:
        name += "_"
    return name


def _is_of_tensor(node: Node, op_type: str) -> bool:
    """It is this operator, with one scale for all."""
    return node.is_op(op_type) and _numbers(node) is not None


def _numbers(node: Node) -> tuple[object, ...] | None:
    """Scale, zero point and type; None where they differ by channel or are computed."""
    scale, zero = node.inputs[1], node.input(2)
    if scale is None or scale.scalar() is None or (zero is not None and zero.scalar() is None):
        return None
    return scale.scalar(), 0 if zero is None else zero.scalar(), node.output.dtype


def _is_quantised(value: Value | None) -> bool:
    """It is made by a QuantizeLinear, so that a header can tell what it stands for."""
    return value is not None and value.producer is not None and value.producer.is_op("QuantizeLinear")
