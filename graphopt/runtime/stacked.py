"""Running a graph on many samples at once, node by node, with numpy.

A value that depends on the input of the graph is a stack: its samples along a new first axis, whatever the graph's own
batch is. What the samples have in common, constants and what is computed from those alone, has no such axis. Rounding
weights needs the operands of one layer on many samples before the next one runs; a compiled model has no such place to
stop. Operators that `stacked_operators` does not know run sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.runtime.reference_loops import nested
from graphopt.runtime.stacked_operators import OPERATORS, evaluated


@dataclass(frozen=True)
class Operand:
    """An array of the samples of a value, or of all samples alike."""

    data: np.ndarray
    is_stack: bool

    def of(self, sample: int) -> np.ndarray:
        return self.data[sample] if self.is_stack else self.data


Operands = Sequence[Operand | None]
Environment = dict[Value, Operand]
Evaluate = Callable[[Node, Operands, Mapping[Value, Operand]], list[Operand]]
"""The outputs of a node for its operands, and what its nested graphs read from around them."""


def stacks_of(graph: Graph, samples: Sequence[Mapping[str, np.ndarray]]) -> Environment:
    """The inputs of `graph` as stacks of samples."""
    return {
        value: Operand(np.stack([sample[value.name] for sample in samples]), True) for value in graph.inputs
    }


def operands_of(node: Node, environment: Mapping[Value, Operand]) -> list[Operand | None]:
    """What the inputs of `node` hold; None where one is left out."""
    return [None if value is None else _operand(value, environment) for value in node.inputs]


def outputs_of(graph: Graph, environment: Mapping[Value, Operand]) -> list[Operand]:
    return [_operand(value, environment) for value in graph.outputs]


def _operand(value: Value, environment: Mapping[Value, Operand]) -> Operand:
    """Of a constant what the environment says, if it says anything."""
    if value.constant is not None and value not in environment:
        return Operand(value.constant, False)
    return environment[value]


def evaluate(node: Node, operands: Operands, environment: Mapping[Value, Operand]) -> list[Operand]:
    """The outputs of one node. Raises UnsupportedError for an operator that the reference cannot run."""
    counts = [len(o.data) for o in operands if o is not None and o.is_stack]
    if node.is_op("Scan"):
        return scan(node, operands, environment, evaluate)
    if not counts:
        results = evaluated(node, [None if o is None else o.data for o in operands])
        return [Operand(result, False) for result in results]
    known = OPERATORS.get(node.op_type) if not node.domain else None
    if known is not None:
        arrays = [None if o is None else o.data for o in operands]
        made = known(node, arrays, [o is not None and o.is_stack for o in operands])
        if made is not None:
            return [Operand(result, True) for result in made]
    rows = [evaluated(node, [None if o is None else o.of(k) for o in operands]) for k in range(counts[0])]
    return [Operand(np.stack(column), True) for column in zip(*rows, strict=True)]


def forgetting(graph: Graph, *environments: dict[Value, Operand]) -> Iterator[Node]:
    """The nodes of `graph` in order; values that nobody reads any more are dropped behind each of them."""
    waiting = {value: len(value.uses) + value.outputs_of_graph for value in graph.values()}
    for node in graph.nodes:
        read = node.inputs
        yield node
        for value in read:
            if value is not None and value.constant is None and value in waiting:
                waiting[value] -= 1
                if not waiting[value]:
                    for environment in environments:
                        environment.pop(value, None)


def run(graph: Graph, environment: Environment, each: Evaluate = evaluate) -> list[Operand]:
    """The outputs of `graph`; `environment` has its inputs, and keeps what is still of use. `each` runs a node."""
    for node in forgetting(graph, environment):
        made = each(node, operands_of(node, environment), environment)
        environment.update(zip(node.outputs, made, strict=False))
    return outputs_of(graph, environment)


def scan(
    node: Node, operands: Operands, environment: Mapping[Value, Operand], each: Evaluate
) -> list[Operand]:
    """Scan whose body runs on the whole stack, step by step along the scanned inputs' own axes."""
    body, count = nested(node, "body"), node.int("num_scan_inputs")
    first = len(operands) - count
    state = [o for o in operands[:first] if o is not None]
    rows = [
        _rows(o, axis, backward)
        for o, axis, backward in zip(
            operands[first:],
            node.ints("scan_input_axes", (0,) * count) or (),
            node.ints("scan_input_directions", (0,) * count) or (),
            strict=True,
        )
        if o is not None
    ]
    scanned: list[list[Operand]] = [[] for _ in body.outputs[first:]]
    for step in zip(*rows, strict=True):
        local: Environment = {**environment, **dict(zip(body.inputs, (*state, *step), strict=True))}
        made = run(body, local, each)
        state = made[:first]
        for kept, value in zip(scanned, made[first:], strict=True):
            kept.append(value)
    axes = node.ints("scan_output_axes", (0,) * len(scanned)) or ()
    directions = node.ints("scan_output_directions", (0,) * len(scanned)) or ()
    return [*state, *map(_joined, scanned, axes, directions)]


def _rows(operand: Operand, axis: int, backward: int) -> list[Operand]:
    place = axis + operand.is_stack if axis >= 0 else axis
    moved = np.moveaxis(operand.data, place, 0)
    return [Operand(row, operand.is_stack) for row in (moved[::-1] if backward else moved)]


def _joined(parts: list[Operand], axis: int, backward: int) -> Operand:
    is_stack = parts[0].is_stack
    arrays = [part.data for part in (parts[::-1] if backward else parts)]
    return Operand(np.stack(arrays, axis + is_stack if axis >= 0 else axis), is_stack)
