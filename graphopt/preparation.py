"""Between the optimised graph and the kernels: what only the lowering wants.

`legalized` leaves operators that have kernels; `halved` computes in float16 where that is safe; `grouped_for` lays
images out in the target's blocks and puts every operator into a group. None changes what a user sees: the exported
graph is the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.errors import UnsupportedError
from graphopt.ir import QUANT, DType, Graph, Node
from graphopt.ir.fused import inline_fused
from graphopt.passes.assign_layout import AssignLayout
from graphopt.passes.blocked_twins import ALL_CHANNELS
from graphopt.passes.canonicalize import Canonicalize
from graphopt.passes.compute_in_half import ComputeInHalf
from graphopt.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.passes.expand_functions import ExpandFunctions
from graphopt.passes.expand_quantized import QUANTISED
from graphopt.passes.fold_constants import FoldConstants
from graphopt.passes.fold_shapes import FoldShapes
from graphopt.passes.inline_branches import InlineBranches, why_open
from graphopt.passes.lower_integer import LowerInteger
from graphopt.passes.multiply_by_scales import MultiplyByScales
from graphopt.passes.recentre_bytes import RecentreBytes
from graphopt.passes.recognize_recurrence import RecognizeRecurrence
from graphopt.passes.requantize_fixed import RequantizeFixed
from graphopt.passes.saturate_activations import SaturateActivations
from graphopt.passes.share_buffers import ShareBuffers
from graphopt.passes.tabulate_activations import TabulateActivations
from graphopt.pipeline import Pipeline
from graphopt.targets.lower.support import REFUSED, SUPPORTED, unsupported

if TYPE_CHECKING:
    from graphopt.targets.device import Target

BYTES = 16
"""Channels in a block of a quantised graph: a vector of bytes on the smallest machine, of sums on the largest."""

PAIR = 2
"""Channels in a block where there are no vectors, and floats are kept in blocks."""

NARROWEST = 128
"""Bits of the shorter vectors that some processors have beside their longest: as many go by in a cycle, or more."""

CONTROL_FLOW = "kernels have no control flow"

CONTROL_FLOW_HINT = (
    "bounds are options: `graphopt optimize MODEL --pipeline 'inline-branches{trips=N nodes=N select=N}' -o OUT.onnx`, "
    "then compile that; what depends on data must be fixed before the export"
)


def legalized(graph: Graph, *, fixed_point: bool = False) -> Graph:
    """A copy of `graph` made of operators that have kernels, as far as ONNX defines the others by those.

    What a quantised model sums is summed as integers, in operators of `graphopt.quant`, where they fit 32 bits; other
    weights are dequantised here. With `fixed_point` the sums are requantised without floats, and whatever else
    depends on a single byte is a table.
    """
    integers = (RecognizeRecurrence(), SaturateActivations(), LowerInteger(), EliminateCommonSubexpressions())
    expand = ExpandFunctions(keep=tuple(sorted(SUPPORTED | REFUSED.keys())))
    fold = FoldConstants(dequantize=True)
    shapes = (fold, FoldShapes(), fold)
    copy = graph.clone()
    inline_fused(copy)
    fixed = (RequantizeFixed(), TabulateActivations(everything=True)) if fixed_point else ()
    last = (Canonicalize(), *fixed, TabulateActivations(), MultiplyByScales(), EliminateDeadCode())
    Pipeline((*integers, expand, *shapes, InlineBranches(), *shapes, *last)).run(copy)
    return copy


def obstacles(graph: Graph) -> list[tuple[Node, str]]:
    """Every node that no kernel can be made for, with the reason; of control flow, why its way is not known."""
    found = []
    for node, reason in unsupported(graph):
        open_way = why_open(node)
        found.append((node, f"{CONTROL_FLOW}, and {open_way}" if open_way else reason))
    return found


def halved(graph: Graph) -> Graph:
    """A copy of `graph` that computes in float16 where that is safe.

    Raises UnsupportedError for a quantised model: its sums are integers, which float16 does not hold.
    """
    for node in graph.nodes:
        if node.domain == QUANT or node.key in QUANTISED:
            raise UnsupportedError(
                "the model is quantised, and sums of its integers are not exact in float16",
                where=f"node '{node.origin.known_as(node.name)}' ({node.op_type})",
                hint="compile it without --precision, or compile the model before quantisation",
            )
    copy = graph.clone()
    inline_fused(copy)
    Pipeline((ComputeInHalf(), EliminateDeadCode())).run(copy)
    return copy


def sums_integers(graph: Graph) -> bool:
    """Whether some sums are sums of integers, as `legalized` leaves them."""
    return any(node.domain == QUANT for node in graph.nodes)


def blocked_for(graph: Graph, target: Target, *, half: bool = False) -> Graph:
    """A copy of `graph` with images in blocks and bytes of the sign that the target multiplies.

    A block is one vector of the target (with `half`, of float16), or half of one where that holds all channels; in a
    quantised graph it has `BYTES` channels, or all of them where the target keeps images channels-last.
    """
    dtype = DType.float16 if half else DType.float32
    quantised = sums_integers(graph)
    bytes = ALL_CHANNELS if target.is_channels_last else BYTES
    block = bytes if quantised else max(target.vector_bits // dtype.bits, PAIR)
    narrow = 0 if quantised or target.vector_bits < 2 * NARROWEST else block // 2
    copy = graph.clone()
    inline_fused(copy)
    layout = AssignLayout(block=block, narrow=narrow, dtype=dtype.label)
    sign = RecentreBytes(target.multiplies_signed, everything=target.is_channels_last)
    Pipeline((sign, layout, EliminateDeadCode())).run(copy)
    return copy


def grouped_for(graph: Graph, target: Target, *, half: bool = False) -> Graph:
    """A copy of `graph` as the lowering takes it: images in the target's blocks, every operator in a group."""
    from graphopt.targets.fuse import fuse
    from graphopt.targets.pack_weights import pack_weights

    copy = blocked_for(graph, target, half=half)
    Pipeline((ShareBuffers(), EliminateDeadCode())).run(copy)
    pack_weights(copy, target)
    fuse(copy)
    return copy
