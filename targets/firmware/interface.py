"""What a firmware bundle's C interface is called: parameters by the names of the model's tensors, and their scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import ModelAbi, identifier
from graphopt.targets.firmware.arenas import arenas_of
from graphopt.targets.firmware.c_statements import KEYWORDS

FIRMWARE_ERRORS = {
    0: ("OK", "success"),
    1: ("NULL", "an input, an output or an arena is a null pointer"),
    2: ("ARENA", "the arena is too small"),
    3: ("ALIGNMENT", "an arena, an input or an output is not aligned"),
}
"""Return code -> (suffix of the C constant, text)."""

MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

RESERVED = KEYWORDS | {"arena", "arena_bytes", "base"}


@dataclass(frozen=True)
class Quantization:
    """`real = scale * (stored - zero_point)`."""

    scale: float
    zero_point: int


def quantizations(graph: Graph) -> dict[str, Quantization]:
    """How inputs and outputs of a quantised model stand for real numbers, by name; only those that do."""
    found = {}
    for value in graph.inputs:
        readers = _readers(value)
        if readers and all(node.is_op("DequantizeLinear") for node in readers):
            found[value.name] = _of(readers[0].inputs)
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        producer = value.producer
        while producer is not None and producer.is_op(*MOVES) and producer.inputs[0] is not None:
            producer = producer.inputs[0].producer
        if producer is not None and producer.is_op("QuantizeLinear"):
            found[name] = _of(producer.inputs)
    return {name: one for name, one in found.items() if one is not None}


def _readers(value: Value) -> list[Node]:
    """Who computes with the numbers, behind what only moves them."""
    nodes = [use.node for use in value.uses]
    return [r for node in nodes for r in (_readers(node.output) if node.is_op(*MOVES) else [node])]


def _of(operands: Sequence[Value | None]) -> Quantization | None:
    """The scale and the zero point among the operands; None where they differ by channel or are computed."""
    scale, zero = operands[1], operands[2] if len(operands) > 2 else None
    if scale is None or scale.constant is None or scale.constant.size != 1:
        return None
    if zero is not None and (zero.constant is None or zero.constant.size != 1):
        return None
    shift = 0 if zero is None or zero.constant is None else int(np.ravel(zero.constant)[0])
    return Quantization(float(np.ravel(scale.constant)[0]), shift)


def parameter_names(abi: ModelAbi) -> tuple[list[str], list[str]]:
    """The C names of the inputs and of the outputs, all different."""
    taken: set[str] = set(RESERVED) | {name for arena in arenas_of(abi) for name in arena.names}
    sides = []
    for side, specs in (("input", abi.inputs), ("output", abi.outputs)):
        names = []
        for number, spec in enumerate(specs):
            name = identifier(spec.name, fallback=f"{side}_{number}")
            while name in taken:
                name = f"{name}_{side}" if not name.endswith(side) else f"{name}_{number}"
            taken.add(name)
            names.append(name)
        sides.append(names)
    return sides[0], sides[1]


def passed(abi: ModelAbi) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    """The names and tensors that a run is given beside its arena: inputs, and outputs."""
    if not abi.passes_tensors:
        return [], []
    inputs, outputs = parameter_names(abi)
    return list(zip(inputs, abi.inputs, strict=True)), list(zip(outputs, abi.outputs, strict=True))


def quantized(specs: Sequence[Tensor], known: Mapping[str, Quantization]) -> list[tuple[int, Quantization]]:
    """The numbers of the tensors that stand for real numbers, and how."""
    return [(number, known[spec.name]) for number, spec in enumerate(specs) if spec.name in known]
