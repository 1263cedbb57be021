"""Convolutions of bytes, channels-last: any kernel, strides, dilations, pads and groups but single channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from tvm import tirx

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.channels_last.inner import Inner, in_four_bits, inner_for
from graphopt.targets.schedules.templates.channels_last.kernel import ChannelsLastKernel
from graphopt.targets.schedules.templates.channels_last.layer import Layer, convolution_of
from graphopt.targets.schedules.templates.channels_last.plan import WINDOWS, Plan, plans
from graphopt.targets.schedules.templates.nibbles import fits_nibbles, fits_shifted


@dataclass(frozen=True)
class ChannelsLastConvolution:
    """A layer of sums, and what multiplies them."""

    layer: Layer
    inner: Inner
    family: str = "convolution"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> ChannelsLastConvolution | None:
        layer = convolution_of(body, constants)
        if layer is None or (layer.groups > 1 and layer.channels == layer.filters == 1):
            return None
        return cls(layer, inner_for(target, layer.dtype))._with(constants)

    def _with(self, constants: Mapping[int, np.ndarray]) -> Self:
        """The same on weights of 4 bits where these are no more, and their sums fit."""
        weights = self._by_filter(constants[self.layer.number(1)])
        if not fits_nibbles(weights):
            return self
        inner, largest = in_four_bits(self.inner), -int(np.iinfo(self.layer.dtype).min)
        if not fits_shifted(weights, self._starts(weights, constants), largest, inner.shift):
            return self
        return dataclasses.replace(self, inner=inner)

    @property
    def name(self) -> str:
        return f"channels-last-{self.family}-{self.inner.name}"

    # --- decisions ---

    def decisions(self) -> Mapping[str, Sequence[int]]:
        pixels, channels = zip(*self.inner.shapes, strict=True)
        return {
            "pixels": sorted(set(pixels)),
            "channels": sorted(set(channels)),
            "strip": range(WINDOWS + 1),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """What takes the fewest estimated instructions; weights are packed by channels and by the kind of strip."""
        found = list(plans(self.layer, self.inner))
        alike = [p for p in found if like and (p.channels, p.strip) == (like["channels"], like["strip"])]
        best = min(alike or found, key=lambda plan: plan.instructions)
        return {"pixels": best.pixels, "channels": best.channels, "strip": best.strip}

    def _plan(self, decision: Mapping[str, int]) -> Plan:
        return Plan(self.layer, self.inner, decision["pixels"], decision["channels"], decision["strip"])

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights in the order of the plan; the zero point goes into the bias, which is put in front where there is
        none: a pad holds the zero point, so that it counts alike everywhere."""
        layer = self.layer
        weights = self._by_filter(constants[layer.number(1)])
        number, packed = layer.number(1), self._plan(decision).pack(weights)
        starts = self._starts(weights, constants) << np.int32(self.inner.shift)
        if layer.bias is not None:
            return {number: packed, layer.number(2): starts}
        if layer.starts_beside_weights:
            packed = np.concatenate([starts.view(np.int8), packed])
        return {number: packed}

    def _starts(self, weights: np.ndarray, constants: Mapping[int, np.ndarray]) -> np.ndarray:
        """What the sums of each filter begin with."""
        layer, bias = self.layer, self.layer.operand(2)
        own: np.ndarray | int = 0
        if bias is not None:
            own = constants[layer.number(2)] if bias.constant is None else bias.constant
        taken = layer.zero * weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int64)
        return (own - taken).astype(np.int32)

    def _by_filter(self, weights: np.ndarray) -> np.ndarray:
        """(filters, channels, rows, columns)."""
        return weights.reshape(-1, self.layer.channels, *self.layer.window.kernel)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        plan, layer = self._plan(decision), self.layer
        filters = layer.groups * layer.filters
        before = 4 * filters if layer.starts_beside_weights else 0
        sizes = {layer.number(1): before + self.weight_elements(decision)}
        if layer.bias is not None:
            sizes[layer.number(2)] = filters
        return ChannelsLastKernel(plan).function(sizes)

    def weight_elements(self, decision: Mapping[str, int]) -> int:
        """Of the packed weights."""
        return self._plan(decision).weight_elements
