"""The memory that a model takes of a target at least, told before anything is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.liveness import liveness

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
    """Bytes of the activations that are alive at once."""
    from graphopt.targets.abi import ALIGNMENT, FIRMWARE_ALIGNMENT

    alignment = FIRMWARE_ALIGNMENT if target.is_firmware else ALIGNMENT
    return liveness(grouped, alignment=alignment).peak_bytes


def memory_shortages(grouped: Graph, arena: int, target: Target) -> list[str]:
    """Why the target's memory cannot hold the model, each reason a line."""
    from graphopt.targets.arena import storage_bytes
    from graphopt.targets.weights import Weights

    weights = Weights(alignment=1)
    for value in grouped.constants:
        if value.constant is not None and (value.users or value.is_graph_output):
            weights.place(value.constant)
    run = arena + sum(storage_bytes(value) for value in (*grouped.inputs, *grouped.outputs))
    if target.is_firmware:
        return target.shortages(flash=len(weights.blob), ram=run)
    needed = run + len(weights.blob)
    if not 0 < target.memory_bytes < needed:
        return []
    return [f"a run needs at least {needed >> 20} MiB, {target.name} has {target.memory_bytes >> 20} MiB"]
