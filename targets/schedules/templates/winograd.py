"""Winograd convolution on blocked images: 3x3, without strides, in fewer multiplications.

    y = A ((G g G^T) * (B d B^T)) A^T        m x m outputs from (m + 2) x (m + 2) inputs

The multiplications of one place of the tiles, over all channels, are a matrix product: tiles x channels times
channels x filters. F(4, 3) needs a quarter of a direct convolution's, F(2, 3) four ninths; but their weights take four
times the memory, or 16 ninths, and rounding errors grow (`Transform.amplification`). Whole-number weights are left
alone, for they belong to a quantised model, whose sums are exact. Sources: as in `winograd_transform`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.ir import DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.tile import Held, best_tile
from graphopt.targets.schedules.templates.window import Window, window_of_image
from graphopt.targets.schedules.templates.winograd_kernel import Layer, WinogradKernel
from graphopt.targets.schedules.templates.winograd_transform import (
    PAIRS,
    TAPS,
    Transform,
    transformed_filters,
)

LARGEST_AMPLIFICATION = 100.0
"""Of the error bound. Measured errors are far below their bounds: in the mean F(2, 3) is as exact as a direct
convolution, F(4, 3) has twice its error, and F(6, 3), which this keeps out, ten times."""

OUTPUTS = tuple(m for m in PAIRS if Transform(m).amplification <= LARGEST_AMPLIFICATION)

WIDEST_PADS = 2
"""Tiles at a border are unrolled one by one."""

CACHE_SHARE = 0.75
"""Of the second-level cache: for the transformed inputs of a chunk. The rest holds weights and products."""

TRANSFORM_OPERATIONS = 4
"""Arithmetic for each place of a tile, both ways of an axis together, besides a load and a store."""


@dataclass(frozen=True)
class WinogradConvolution:
    """A 3x3 convolution whose input and output have the same blocks."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    channels: int
    filters: int
    lanes: int
    name: str = "winograd-convolution"

    STRIDES: ClassVar[tuple[int, int]] = (1, 1)

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> WinogradConvolution | None:
        layer = cls.fitting(body, constants, target)
        return layer if layer and layer.cycles(layer.best_outputs) < layer.direct_cycles else None

    @classmethod
    def fitting(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> WinogradConvolution | None:
        """The template where it fits, whether or not it wins."""
        anchor = Anchor.of(body)
        if anchor is None or anchor.read is None or anchor.kernel != (TAPS, TAPS) or anchor.groups != 1:
            return None
        read, made = anchor.read, anchor.made
        if read.block != made.block or are_whole(constants[body.inputs.index(anchor.weights)]):
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        if window.strides != cls.STRIDES or window.dilations != (1, 1) or max(_pads(window)) > WIDEST_PADS:
            return None
        return cls(body, anchor.node, target, window, read.channels, made.channels, made.block)

    @property
    def dtype(self) -> DType:
        """What is computed in."""
        return self.anchor.output.dtype

    # --- sizes ---

    def transform(self, outputs: int) -> Transform:
        return Transform(outputs)

    def places(self, outputs: int) -> int:
        """Multiplications of a tile."""
        return self.transform(outputs).inputs ** 2

    @property
    def choices(self) -> tuple[int, ...]:
        """Outputs of a tile along an axis."""
        return OUTPUTS

    @property
    def vectors(self) -> int:
        """Vectors of filters."""
        return -(-self.filters // self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return -(-self.channels // self.lanes)

    def grid(self, outputs: int) -> tuple[int, int, int]:
        """Images, and rows and columns of tiles of `outputs` x `outputs` in an image."""
        rows, columns = self.window.result
        return self.anchor.output.static_shape[0], -(-rows // outputs), -(-columns // outputs)

    def _weights(self, places: int) -> int:
        """Vectors of weights when each filter has `places` of a channel."""
        return places * self.channels * self.vectors

    # --- costs ---

    @property
    def direct_cycles(self) -> float:
        """Estimated, for a direct convolution: its arithmetic, or its weights' way from memory if that takes longer."""
        pixels = math.prod((self.anchor.output.static_shape[0], *self.window.result))
        return self._product_cycles(pixels, self.window.taps)

    def cycles(self, outputs: int) -> float:
        """Estimated, for tiles of `outputs` x `outputs`."""
        tiles, places = math.prod(self.grid(outputs)), self.places(outputs)
        each = TRANSFORM_OPERATIONS / self.target.fma_per_cycle + 2 / self.target.loads_per_cycle
        transforms = tiles * places * (self.blocks + self.vectors) * each
        return self._product_cycles(tiles, places) + transforms

    def _product_cycles(self, rows: int, places: int) -> float:
        weights = self._weights(places)
        stream = self.dtype.bits // 8 * self.lanes * weights / self.target.memory_bytes_per_cycle
        return max(rows * weights / self.target.fma_per_cycle, stream)

    # --- decisions ---

    @property
    def best_outputs(self) -> int:
        return min(self.choices, key=self.cycles)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "outputs": self.choices,
            "columns": range(1, registers + 1),
            "vectors": range(1, 9),
            "groups": range(1, math.prod(self.grid(min(self.choices))) + 1),
            "hold": (0, 1) if self.target.multiplies_by_lane else (0,),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """Chunks of `groups` times `columns` tiles."""
        outputs = like["outputs"] if like else self.best_outputs
        wide = like["vectors"] if like else None
        hold = self.target.multiplies_by_lane
        tiles = math.prod(self.grid(outputs))
        held = Held.along(self.lanes) if hold else None
        columns, vectors = best_tile(
            tiles, self.vectors, self.target, held=held, wide=wide, dtype=self.dtype.label
        )
        groups = self._groups(outputs, columns)
        return {
            "outputs": outputs,
            "columns": columns,
            "vectors": vectors,
            "groups": groups,
            "hold": int(hold),
        }

    def _groups(self, outputs: int, columns: int) -> int:
        """As many as the cache holds. Where weights stay in the cache too, fewer chunks than threads want are no
        gain; where they do not, every chunk fetches them anew."""
        places, vector = self.places(outputs), self.dtype.bits // 8 * self.lanes
        groups = -(-math.prod(self.grid(outputs)) // columns)
        room = CACHE_SHARE * self.target.l2_bytes
        most = int(room // (places * columns * self.blocks * vector))
        if self._weights(places) * vector <= room:
            most = min(most, groups // (2 * self.target.cores))
        chunks = -(-groups // max(most, 1))
        return -(-groups // chunks)

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Transformed weights as [panel, place, channel, vectors * lanes], rounded once."""
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        weights = numbers[self.anchor.inputs[1]]  # type: ignore[index]
        packed = {weights: self._pack_weights(constants[weights], decision)}
        bias = self.anchor.input(2)
        if bias is not None:
            padded = np.zeros(self.vectors * self.lanes, self.dtype.numpy)
            padded[: self.filters] = constants[numbers[bias]]
            packed[numbers[bias]] = padded
        return packed

    def _pack_weights(self, weights: np.ndarray, decision: Mapping[str, int]) -> np.ndarray:
        transformed = self.transformed(weights, self.transform(decision["outputs"]))
        places, wide = len(transformed), decision["vectors"] * self.lanes
        panels = -(-self.vectors // decision["vectors"])
        full = np.zeros((places, panels * wide, self.channels), self.dtype.numpy)
        full[:, : self.filters] = transformed
        split = full.reshape(places, panels, wide, self.channels)
        return np.ascontiguousarray(split.transpose(1, 0, 3, 2)).reshape(-1)

    @staticmethod
    def transformed(weights: np.ndarray, transform: Transform) -> np.ndarray:
        """(places, F, C)."""
        return transformed_filters(weights, transform)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        places = self.places(decision["outputs"])
        wide = -(-self.vectors // decision["vectors"]) * decision["vectors"] * self.lanes
        sizes = {numbers[self.anchor.inputs[1]]: places * self.channels * wide}  # type: ignore[index]
        bias = self.anchor.input(2)
        if bias is not None:
            sizes[numbers[bias]] = self.vectors * self.lanes
        return build_kernel(self.body, lambda buffers: self.kernel(decision, buffers).emit(), sizes)

    def kernel(self, decision: Mapping[str, int], buffers: Buffers) -> WinogradKernel:
        """What writes it."""
        outputs = decision["outputs"]
        given = self.layer, self.transform(outputs), self.grid(outputs), decision, self.target
        return WinogradKernel(*given, buffers)

    @property
    def layer(self) -> Layer:
        return Layer(self.body, self.anchor, self.window, self.channels, self.vectors, self.lanes)


def are_whole(weights: np.ndarray) -> bool:
    return bool((weights == np.rint(weights)).all())


def _pads(window: Window) -> tuple[int, ...]:
    """Rows and columns of zeros, before and behind."""
    sides = zip(window.pads, window.result, window.image, window.strides, strict=True)
    return tuple(
        pad
        for before, made, given, stride in sides
        for pad in (before, (made - 1) * stride + TAPS - given - before)
    )
