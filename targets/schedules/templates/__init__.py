"""Templates: kernels that are built instruction by instruction, for the operators that time is spent in.

A template looks at a group's body. Where it fits it names its decisions (tile sizes and the like), has defaults from
a cost model on the target's registers, arranges the weights in the order the kernel walks them, and builds the
kernel. A group that no template fits gets the generic schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tvm import tirx

from graphopt.ir import DType, Graph
from graphopt.ir.layout import blocked_of
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.attention import FusedAttention
from graphopt.targets.schedules.templates.channels_last import (
    ChannelsLastConvolution,
    ChannelsLastProduct,
    SparseConvolution,
    SparseProduct,
)
from graphopt.targets.schedules.templates.convolution import DirectConvolution
from graphopt.targets.schedules.templates.depthwise import DepthwiseConvolution
from graphopt.targets.schedules.templates.few_channels import FewChannels
from graphopt.targets.schedules.templates.helium import HELIUM_TEMPLATES
from graphopt.targets.schedules.templates.integer_batches import IntegerBatches
from graphopt.targets.schedules.templates.integer_convolution import IntegerConvolution
from graphopt.targets.schedules.templates.integer_depthwise import IntegerDepthwise
from graphopt.targets.schedules.templates.integer_product import IntegerProduct
from graphopt.targets.schedules.templates.integer_recurrence import IntegerRecurrence
from graphopt.targets.schedules.templates.integer_transposed import IntegerTransposed
from graphopt.targets.schedules.templates.normalization import RowNormalization
from graphopt.targets.schedules.templates.permutation import Permutation
from graphopt.targets.schedules.templates.pooling import BlockedPool
from graphopt.targets.schedules.templates.product import PackedProduct
from graphopt.targets.schedules.templates.transposed import TransposedConvolution
from graphopt.targets.schedules.templates.unblocked_convolution import UnblockedConvolution
from graphopt.targets.schedules.templates.winograd import WinogradConvolution
from graphopt.targets.schedules.templates.winograd_row import WinogradRowConvolution
from graphopt.targets.schedules.templates.winograd_strided import WinogradStridedConvolution
from graphopt.targets.schedules.templates.words import WORDS_TEMPLATES

Decision = Mapping[str, int]


class Template(Protocol):
    """One family of kernels. An instance is a template that fits a body on a target."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> Template | None:
        """The template for `body`, where some inputs, by number, are constants; None if it does not fit."""

    def decisions(self) -> Mapping[str, Sequence[int]]:
        """The tuning space: every decision with its choices."""

    def defaults(self, like: Decision | None = None) -> Decision:
        """The choice that needs no tuning; one that packs constants as the decision `like` does, where it is given."""

    def pack(self, decision: Decision, constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The constant operands of the group, by number, in the kernel's order."""

    def build(self, decision: Decision) -> tirx.PrimFunc:
        """The kernel on the packed operands."""


TEMPLATES: tuple[type[Template], ...] = (
    WinogradConvolution,
    WinogradStridedConvolution,
    WinogradRowConvolution,
    DirectConvolution,
    DepthwiseConvolution,
    IntegerDepthwise,
    UnblockedConvolution,
    IntegerConvolution,
    IntegerTransposed,
    TransposedConvolution,
    BlockedPool,
    PackedProduct,
    IntegerProduct,
    IntegerBatches,
    IntegerRecurrence,
    FewChannels,
    Permutation,
    FusedAttention,
    RowNormalization,
)


PLAIN = tuple(template for template in TEMPLATES if not issubclass(template, WinogradConvolution))
"""Those that add up what the model says, and nothing else."""


CHANNELS_LAST: tuple[type[Template], ...] = (
    *HELIUM_TEMPLATES,
    *WORDS_TEMPLATES,
    SparseConvolution,
    SparseProduct,
    ChannelsLastConvolution,
    ChannelsLastProduct,
    PackedProduct,
    IntegerProduct,
    IntegerBatches,
    IntegerRecurrence,
    FusedAttention,
    RowNormalization,
)
"""Those for targets that keep images channels-last: the others want blocks, or vectors."""


@dataclass(frozen=True)
class Choice:
    """A template and the decision it is built with."""

    template: Template
    decision: Decision

    def build(self) -> tirx.PrimFunc:
        """The kernel."""
        return self.template.build(self.decision)

    def __str__(self) -> str:
        settings = " ".join(f"{name}={value}" for name, value in self.decision.items())
        return f"{self.template.name}{{{settings}}}"


def choose(
    body: Graph,
    constants: Mapping[int, np.ndarray],
    target: Target,
    *,
    winograd: bool = True,
    half: bool = False,
    like: Choice | None = None,
) -> Choice | None:
    """The first template that fits, with its defaults. Convolutions may be told to do without `winograd`.

    Templates compute float16 in itself, which is for those who ask for it with `half`. Another group with the same
    constants was given the choice `like`: they are packed the same way again where that fits.
    """
    if not half and any(v.type and v.dtype is DType.float16 for v in body.values()):
        return None
    if like is not None:
        again = type(like.template).match(body, constants, target)
        if again is not None:
            return Choice(again, again.defaults(like.decision))
    for template in _offered(body, target, winograd):
        fitting = template.match(body, constants, target)
        if fitting is not None:
            return Choice(fitting, fitting.defaults())
    return None


def fitting_templates(
    body: Graph,
    constants: Mapping[int, np.ndarray],
    target: Target,
    *,
    winograd: bool = True,
    half: bool = False,
) -> list[Template]:
    """All templates that can build the kernel, whether or not an estimate prefers them: what there is to tune."""
    if not half and any(v.type and v.dtype is DType.float16 for v in body.values()):
        return []
    matches = (
        (t.fitting if issubclass(t, WinogradConvolution) else t.match)(body, constants, target)
        for t in _offered(body, target, winograd)
    )
    return [template for template in matches if template is not None]


def _offered(body: Graph, target: Target, winograd: bool) -> tuple[type[Template], ...]:
    layouts = [blocked_of(value.type) for value in body.values()]
    if target.is_channels_last and all(layout is None or layout.blocks == 1 for layout in layouts):
        return CHANNELS_LAST
    return TEMPLATES if winograd else PLAIN
