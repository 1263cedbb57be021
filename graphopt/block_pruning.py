"""Which residual blocks a model can do without: measured on samples.

At each step every block that is left is taken out for itself, and the one goes whose absence changes the model's
outputs least for what it saves. What stays is then fitted as narrower models are (`passes/pruning/refit.py`): layers
behind a missing block make up for it, and the next one that is added to the same sum most of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Graph, Node
from graphopt.passes.prune_layers import is_excluded, removable
from graphopt.passes.pruning.blocks import Block, detached, living_nodes, residual_blocks, take_out
from graphopt.passes.pruning.choose import Aim
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.pruning.refit import Fit, fit_layer, run_beside
from graphopt.runtime.stacked import Environment, Operand, run

LOOKED_AT = 128
"""Samples on which blocks are left out."""

LEAST = 1e-30
"""What a block saves at least, as a share."""


@dataclass(frozen=True)
class Removed:
    """A block that went: how many layers and parameters it had, and the error of the model's outputs without it and
    those before it, as a share of their energy, before anything was fitted."""

    name: str
    layers: int
    parameters: int
    error: float


def chosen_blocks(
    graph: Graph,
    inputs: Environment,
    aim: str,
    share: float,
    exclude: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Block], list[Removed]]:
    """The blocks that go, until the aim is met: a share of the model's costs is left, or the `ratio` of blocks gone.

    `inputs` are stacks of samples. Raises UsageError where all blocks are not enough.
    """
    first = removable(graph, exclude)
    stacks = {value: Operand(o.data[:LOOKED_AT], o.is_stack) for value, o in inputs.items()}
    wanted = outputs_of_stacks(graph, graph, stacks)
    cost = _counted(len({block.position for block in first})) if aim == "ratio" else _weighed(graph, aim)
    limit = 1 - share if aim == "ratio" else share
    chosen: list[Block] = []
    told: list[Removed] = []
    while (now := cost(chosen)) > limit:
        left = [b for b in residual_blocks(detached(graph, chosen)) if not is_excluded(b, exclude)]
        if not left:
            hint = f"ask for {np.ceil(100 * now):.0f}% or more, and take channels out of the result"
            what = f"{share:.0%} of its {aim} cannot be reached: without all blocks {now:.0%} are left"
            raise UsageError(what, where=aim, hint=hint)
        tried = []
        for number, block in enumerate(left):
            if progress:
                progress(f"leaving out block {len(chosen) + 1}", number, len(left))
            error = error_share(wanted, outputs_of_stacks(detached(graph, [*chosen, block]), graph, stacks))
            saved = max(now - cost([*chosen, block]), LEAST)
            tried.append((error / saved, error, number))
        _, error, number = min(tried)
        block = left[number]
        chosen.append(block)
        told.append(Removed(block.name, block.layers, block.parameters, error))
    return chosen, told


def without_blocks(
    graph: Graph,
    blocks: Sequence[Block],
    inputs: Environment,
    recovery: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Graph, list[Fit]]:
    """A copy of `graph` without the blocks, its layers fitted to `inputs` unless `recovery` is "none"."""
    narrow = detached(graph, blocks)
    fits: list[Fit] = []
    if recovery != "none":
        living = living_nodes(narrow)

        def visit(node: Node, x: np.ndarray, target: np.ndarray) -> None:
            if node in living:
                fits.append(fit_layer(node, x, target, weights=recovery == "refit"))

        run_beside(narrow, graph, Kept({}), inputs, visit, progress)
    take_out(narrow, blocks)
    return narrow, fits


def _weighed(graph: Graph, name: str) -> Callable[[Sequence[Block]], float]:
    aim = Aim(name, 1.0)
    whole = aim.of(graph)

    def cost(blocks: Sequence[Block]) -> float:
        copy = graph.clone()
        take_out(copy, blocks)
        return aim.of(copy) / whole

    return cost


def _counted(count: int) -> Callable[[Sequence[Block]], float]:
    return lambda blocks: 1 - len(blocks) / count


def outputs_of_stacks(graph: Graph, whole: Graph, stacks: Environment) -> list[np.ndarray]:
    """The outputs of `graph` that are floats, for stacks of the inputs of `whole`, whose copy it is."""
    given = dict(zip(graph.inputs, (stacks[value] for value in whole.inputs), strict=True))
    made = run(graph, given)
    return [o.data.astype(np.float64) for o in made if o.data.dtype.kind == "f"]


def error_share(wanted: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> float:
    """The sum of squares of what is lost, as a share; infinite where it is no number."""
    shares = [
        np.square(a - b).sum() / max(np.square(a).sum(), np.finfo(np.float64).tiny)
        for a, b in zip(wanted, made, strict=True)
    ]
    total = float(np.sum(shares))
    return total if np.isfinite(total) else float("inf")
