"""Canonical forms: nodes that do nothing disappear, nodes that say the same say it one way.

    Identity(x), Dropout(x), Cast to the same type, Pad by nothing, a whole Slice ...  -->  x
    auto_pad=SAME_UPPER                                                                -->  pads

The forms of reshapes and of arithmetic are in `canonical_reshape` and `canonical_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Value
from graphopt.passes import canonical_arithmetic, canonical_reshape
from graphopt.passes.algebra import same_type
from graphopt.pipeline import RulePass
from graphopt.rewrite import Any, Builder, Match, Op, Rule
from graphopt.runtime.reference_conv import explicit_pads


class RemoveIdentity(Rule):
    """Identity(x) --> x; Dropout(x) --> x outside training."""

    name = "remove-identity"
    pattern = Op(("Identity", "Dropout"), Any("x"), Any(optional=True), Any("training", optional=True))

    def check(self, match: Match) -> str | None:
        training = match.get("training")
        if training is not None and training.scalar() is not False:
            return "Dropout may be training"
        if len(match.root.outputs) > 1 and (
            match.root.outputs[1].uses or match.root.outputs[1].is_graph_output
        ):
            return "the mask is used"
        graph = match.root.graph
        if graph is not None and match["x"].graph is not graph and match.root.output.is_graph_output:
            return "it hands an outer value out of a nested graph"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        return (match["x"], *(None for _ in match.root.outputs[1:]))


class RemoveNoOp(Rule):
    """A node that returns its operand: Cast, Transpose, Reshape, Pad, Slice, Expand, Tile, Resize ..."""

    name = "remove-no-op"
    pattern = Op(
        "Cast Transpose Reshape Pad Slice Expand Tile Resize Squeeze Unsqueeze Flatten".split(),
        Any("x"),
        more=True,
    )

    def check(self, match: Match) -> str | None:
        node, x = match.root, match["x"]
        reason = same_type(match, x)
        if reason:
            return reason
        if node.op_type == "Transpose":
            order = node.ints("perm")
            moved = [] if order is None else [a for a in order if x.shape is None or x.shape[a] != 1]
            return None if order is not None and moved == sorted(moved) else "it moves elements"
        if node.op_type == "Slice":
            steps = node.input(4)
            if steps is not None and (steps.constant is None or (steps.constant != 1).any()):
                return "it may reverse"
            return None if x.is_static else "the shape is not static"
        if node.op_type == "Pad":
            pads = node.input(1)
            if pads is None or pads.constant is None or pads.constant.any():
                return "it moves elements"
        if node.op_type == "Resize":
            scales = node.input(2)
            if scales is not None and (scales.constant is None or (scales.constant != 1).any()):
                return "it scales"
            if node.str("coordinate_transformation_mode") == "tf_crop_and_resize":
                return "it crops"
        if node.op_type in ("Expand", "Tile", "Resize", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return None if x.is_static or x.rank == 0 else "the shape is not static"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return match["x"]


class ExplicitPads(Rule):
    """auto_pad=SAME_UPPER --> pads=..., where the input's size is known."""

    name = "explicit-pads"
    pattern = Op("Conv MaxPool AveragePool LpPool".split(), Any("x"), more=True)

    def check(self, match: Match) -> str | None:
        if match.root.str("auto_pad", "NOTSET") == "NOTSET":
            return "its pads are explicit"
        shape = match["x"].shape
        if shape is None or any(isinstance(d, str) for d in shape[2:]):
            return "the input's size is not known"
        return None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        spatial = [int(d) for d in (match["x"].shape or ())[2:]]
        kernel = self._kernel(match)
        rank = len(spatial)
        dilations = node.ints("dilations", (1,) * rank) or ()
        strides = node.ints("strides", (1,) * rank) or ()
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        attributes = {k: v for k, v in node.attributes.items() if k != "auto_pad"}
        attributes["pads"] = explicit_pads(node, spatial, span, strides)
        return build.ops(node.op_type, *node.inputs, outputs=len(node.outputs), **attributes)

    @staticmethod
    def _kernel(match: Match) -> tuple[int, ...]:
        given = match.root.ints("kernel_shape")
        if given is not None:
            return given
        weights = match.root.input(1)
        assert weights is not None
        return weights.static_shape[2:]


RULES = (
    RemoveIdentity(),
    RemoveNoOp(),
    *canonical_reshape.RULES,
    *canonical_arithmetic.RULES,
    ExplicitPads(),
)


@dataclass(frozen=True)
class Canonicalize(RulePass):
    """Remove nodes that do nothing and bring the others into one form."""

    name: ClassVar[str] = "canonicalize"

    @property
    def rules(self) -> Sequence[Rule]:
        return RULES
