"""Products of rows of bytes with constant weights: convolutions of one row of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.channels_last.convolution import ChannelsLastConvolution
from graphopt.targets.schedules.templates.channels_last.inner import inner_for
from graphopt.targets.schedules.templates.channels_last.layer import product_of


@dataclass(frozen=True)
class ChannelsLastProduct(ChannelsLastConvolution):
    """MatMul of `graphopt.quant`, whose rows are pixels."""

    family: str = "product"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> ChannelsLastProduct | None:
        layer = product_of(body, constants)
        return None if layer is None else cls(layer, inner_for(target, layer.dtype))._with(constants)

    def _by_filter(self, weights: np.ndarray) -> np.ndarray:
        return super()._by_filter(np.ascontiguousarray(weights.T))
