"""Between the optimised graph and the kernels: what only the lowering wants.

`legalized` leaves operators that have kernels; `grouped_for` lays images out in the target's blocks and puts every
operator into a group. Neither changes what a user sees: the exported graph is the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import Graph
from graphopt.ir.fused import inline_fused
from graphopt.passes.assign_layout import AssignLayout
from graphopt.passes.canonicalize import Canonicalize
from graphopt.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.passes.expand_functions import ExpandFunctions
from graphopt.passes.fold_constants import FoldConstants
from graphopt.passes.fold_shapes import FoldShapes
from graphopt.passes.inline_branches import InlineBranches
from graphopt.passes.postpone_dequantize import PostponeDequantize
from graphopt.passes.saturate_activations import SaturateActivations
from graphopt.passes.share_buffers import ShareBuffers
from graphopt.pipeline import Pipeline
from graphopt.targets.lower.support import REFUSED, SUPPORTED

if TYPE_CHECKING:
    from graphopt.targets.device import Target


def legalized(graph: Graph) -> Graph:
    """A copy of `graph` made of operators that have kernels, as far as ONNX defines the others by those.

    Kernels compute on floats. What a quantised model sums stays integers in those, as far as the sums are exact;
    other weights are dequantised here.
    """
    postpone = (SaturateActivations(), PostponeDequantize(), EliminateCommonSubexpressions())
    expand = ExpandFunctions(keep=tuple(sorted(SUPPORTED | REFUSED.keys())))
    fold = FoldConstants(dequantize=True)
    shapes = (fold, FoldShapes(), fold)
    copy = graph.clone()
    inline_fused(copy)
    steps = (*postpone, expand, *shapes, InlineBranches(), *shapes, Canonicalize(), EliminateDeadCode())
    Pipeline(steps).run(copy)
    return copy


def blocked_for(graph: Graph, target: Target) -> Graph:
    """A copy of `graph` with images in the target's blocks."""
    copy = graph.clone()
    inline_fused(copy)
    Pipeline((AssignLayout(block=target.vector_bits // 32), EliminateDeadCode())).run(copy)
    return copy


def grouped_for(graph: Graph, target: Target) -> Graph:
    """A copy of `graph` as the lowering takes it: images in the target's blocks, every operator in a group."""
    from graphopt.targets.fuse import fuse
    from graphopt.targets.pack_weights import pack_weights

    copy = blocked_for(graph, target)
    Pipeline((ShareBuffers(), EliminateDeadCode())).run(copy)
    pack_weights(copy, target)
    fuse(copy)
    return copy
