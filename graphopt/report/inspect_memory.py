"""The memory that a model takes of a target at least, told before anything is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.liveness import liveness

ANYWHERE = -(1 << 40)
"""In front of anything."""

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.targets.device import Target


def grouped_without_packing(graph: Graph, target: Target) -> Graph | None:
    """A copy of the legalised `graph` in the groups that the compiler makes; None while a shape is open.

    Packing weights for kernels only adds to them.
    """
    from graphopt.passes.eliminate_dead_code import EliminateDeadCode
    from graphopt.passes.share_buffers import ShareBuffers
    from graphopt.pipeline import Pipeline
    from graphopt.preparation import blocked_for
    from graphopt.targets.fuse import fuse

    if not all(value.is_static for value in graph.values()):
        return None
    copy = blocked_for(graph, target)
    Pipeline((ShareBuffers(), EliminateDeadCode())).run(copy)
    fuse(copy)
    return copy


def arena_at_least(grouped: Graph, target: Target) -> int | None:
    """Bytes of the activations that are alive at once; of firmware between two layers, inputs and outputs included,
    since a layer's results may share memory with what it reads."""
    from graphopt.targets.abi import ALIGNMENT

    if target.is_firmware:
        return _between_layers(grouped)
    return liveness(grouped, alignment=ALIGNMENT).peak_bytes


def _between_layers(grouped: Graph) -> int:
    from graphopt.analysis.storage import Storage
    from graphopt.targets.abi import FIRMWARE_ALIGNMENT
    from graphopt.targets.arena import Work, plan_arena
    from graphopt.targets.execution_order import least_peak_order
    from graphopt.targets.plan_memory import Overlap
    from graphopt.targets.program import needs_kernel

    work = []
    for node in grouped.nodes:
        if needs_kernel(node):
            count = sum(value is not None for value in node.inputs)
            made = range(count, count + len(node.outputs))
            work.append(Work(node, (), {(n, m): Overlap(ANYWHERE, True) for n in range(count) for m in made}))
    storage, elsewhere = Storage(grouped), set(grouped.constants)
    inputs, outputs = grouped.inputs, grouped.outputs
    order = least_peak_order(work, storage, elsewhere, inputs=inputs, outputs=outputs)
    ordered = [work[number] for number in order]
    arena = plan_arena(ordered, storage, elsewhere, FIRMWARE_ALIGNMENT, inputs=inputs, outputs=outputs)
    return arena.plan.lower_bound


def memory_shortages(grouped: Graph, arena: int, target: Target) -> list[str]:
    """Why the target's memory cannot hold the model, each reason a line."""
    from graphopt.targets.arena import storage_bytes
    from graphopt.targets.weights import Weights

    weights = Weights(alignment=1)
    for value in grouped.constants:
        if value.constant is not None and (value.users or value.is_graph_output):
            weights.place(value.constant)
    if target.is_firmware:
        return target.shortages(flash=len(weights.blob), ram=arena)
    run = arena + sum(storage_bytes(value) for value in (*grouped.inputs, *grouped.outputs))
    needed = run + len(weights.blob)
    if not 0 < target.memory_bytes < needed:
        return []
    return [f"a run needs at least {needed >> 20} MiB, {target.name} has {target.memory_bytes >> 20} MiB"]
