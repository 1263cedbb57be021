"""Running a program without compiling it: the bytes where the memory plan puts them, the groups in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.ir import Graph, Value
from graphopt.runtime.reference import evaluate_node
from graphopt.targets.arena import storage_bytes
from graphopt.targets.program import Call, Copy, Place, Program, build_program, needs_kernel

POISON = 0xFF
"""Fills memory that nobody has written; four of them are a NaN."""

WORKSPACE = 192
"""Bytes of scratch that every kernel is said to need, and fills with poison."""


def laid_out(graph: Graph) -> Program:
    """The program of a grouped graph, a kernel for each group."""
    kernels = {node: f"k{i}" for i, node in enumerate(n for n in graph.nodes if needs_kernel(n))}
    return build_program(graph, kernels, dict.fromkeys(kernels.values(), (WORKSPACE,)))


def interpret(graph: Graph, program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name. Raises AssertionError where a kernel would write what it reads."""
    given = [np.frombuffer(np.ascontiguousarray(inputs[s.name]).tobytes(), np.uint8) for s in program.inputs]
    made = [np.full(spec.nbytes, POISON, np.uint8) for spec in program.outputs]
    weights = np.frombuffer(program.weights.blob, np.uint8)
    arena = np.full(program.plan.size, POISON, np.uint8)
    memory = {"input": given, "output": made, "weights": [weights], "arena": [arena]}

    def stretch(place: Place, size: int) -> np.ndarray:
        found = memory[place.region][place.number][place.offset : place.offset + size]
        assert found.size == size, f"{place} ends beyond its region"
        return found

    for step in program.steps:
        if isinstance(step, Copy):
            stretch(step.target, step.size)[:] = stretch(step.source, step.size)
        else:
            _call(step, stretch)
    assert graph.output_names == [spec.name for spec in program.outputs]
    return {
        spec.name: raw.view(spec.dtype.numpy).reshape(spec.shape)
        for spec, raw in zip(program.outputs, made, strict=True)
    }


def _call(step: Call, stretch) -> None:  # type: ignore[no-untyped-def]
    read = [v for v in step.node.inputs if v is not None]
    written = list(step.node.outputs)
    places = step.arguments
    sizes = [*(storage_bytes(v) for v in (*read, *written)), *step.workspaces]
    bytes_of = [stretch(place, size) for place, size in zip(places, sizes, strict=True)]
    for target in bytes_of[len(read) :]:
        assert sum(np.may_share_memory(target, other) for other in bytes_of) == 1, "noalias does not hold"
    operands = [_array(v, raw) for v, raw in zip(read, bytes_of, strict=False)]
    results = evaluate_node(step.node, operands)
    for raw in bytes_of[len(read) + len(written) :]:
        raw[:] = POISON
    for value, result, raw in zip(written, results, bytes_of[len(read) :], strict=False):
        assert result.shape == value.static_shape
        raw[:] = np.frombuffer(np.ascontiguousarray(result).tobytes(), np.uint8)


def _array(value: Value, raw: np.ndarray) -> np.ndarray:
    return np.frombuffer(raw.tobytes(), value.dtype.numpy).reshape(value.static_shape)
