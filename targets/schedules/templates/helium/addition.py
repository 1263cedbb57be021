"""Sums of two images of int8, by `helium_add`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.helium.calls import add
from graphopt.targets.schedules.templates.helium.requantization import Sum, has_helium
from graphopt.targets.schedules.templates.kernel import build_kernel


@dataclass(frozen=True)
class HeliumAddition:
    """A body that is such a sum and nothing else."""

    body: Graph
    added: Sum
    elements: int
    name: str = "helium-addition"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> HeliumAddition | None:
        if not has_helium(target) or len(body.outputs) != 1:
            return None
        (output,) = body.outputs
        added = Sum.of(output)
        if added is None or any(x.producer is not None for x in added.operands) or constants:
            return None
        elements = output.type.size if output.type else 0
        return cls(body, added, elements) if elements else None

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, lambda buffers: add(self.added, buffers, self.elements))
