"""Direct convolution on blocked images.

Neighbouring output channels lie in the lanes of a register; a tile of columns and channel vectors stays in registers
over the whole reduction. The input is never padded: rows outside are skipped at run time, taps outside at build time,
for the tiles at a border are unrolled on their own. A 1x1 convolution takes the image as one long row. Source:
Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.codegen import LARGEST_TASK_BUFFER
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.convolution_kernel import ConvolutionKernel
from graphopt.targets.schedules.templates.epilogue import reads_by_pixel
from graphopt.targets.schedules.templates.held import Cover, cover
from graphopt.targets.schedules.templates.prepared_kernel import PreparedKernel
from graphopt.targets.schedules.templates.sums import steps_at_once
from graphopt.targets.schedules.templates.tile import Held, best_tile
from graphopt.targets.schedules.templates.window import Window, window_of_image

MOST_TAPS = 11
"""Taps along a row that are unrolled at most."""

TAPS_KEPT = 1 / 2
"""Of the registers: the weights of up to so many taps along a row are kept at once. Then each input is loaded once,
for all the outputs that read it. Written tap by tap, the compiler shares those loads by itself and spills the sums."""

MOST_HELD = 32
"""Inputs of a row that are unrolled at most for one output, where a block of channels is no vector."""


@dataclass(frozen=True)
class DirectConvolution:
    """A convolution whose output is in blocks; the input is plain or in blocks of any size."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    groups: int
    channels: int
    block: int
    filters: int
    lanes: int
    name: str = "direct-convolution"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> DirectConvolution | None:
        anchor = Anchor.of(body, prologue=True)
        if anchor is None or anchor.kernel[-1] > MOST_TAPS:
            return None
        node, made, groups = anchor.node, anchor.made, anchor.groups
        if groups == anchor.channels == made.channels and groups > 1:
            return None  # depthwise
        window = window_of_image(node, anchor.image, anchor.kernel)
        if window.is_pointwise and not reads_by_pixel(body, node, range(2, node.output.rank - 1)):  # type: ignore[operator]
            window = window.flat()
        block = anchor.read.block if anchor.read else 1
        size = anchor.channels // groups, block, made.channels // groups, made.block
        found = cls(body, node, target, window, groups, *size)
        return found if anchor.x.producer is None or found.can_prepare else None

    @property
    def dtype(self) -> str:
        """What is computed in."""
        return self.anchor.output.dtype.label

    # --- decisions ---

    @property
    def blocks(self) -> int:
        """Blocks of channels that a group reads."""
        return -(-self.channels // self.block)

    @property
    def blocks_at_once(self) -> int:
        """Blocks of channels whose products are added up before they are added to the rest."""
        return steps_at_once(self.dtype, self.blocks, self.block * self.window.taps)

    @property
    def is_prepared(self) -> bool:
        """Something is done to each input before it is multiplied."""
        return self.anchor.inputs[0].producer is not None  # type: ignore[union-attr]

    @property
    def can_prepare(self) -> bool:
        """The inputs of a tile are the pixels of its outputs, and fit into the memory of a task."""
        one_row = self.window.is_pointwise and self.window.image[0] == 1
        return one_row and self.groups == 1 and self.block == self.lanes and self._widest_strip > 0

    @property
    def _widest_strip(self) -> int:
        """Columns whose prepared inputs fit."""
        return LARGEST_TASK_BUFFER // (4 * self.lanes * -(-self.channels // self.lanes))

    @property
    def vectors(self) -> int:
        """Vectors of output channels in a group."""
        return -(-self.filters // self.lanes)

    @property
    def can_hold(self) -> bool:
        """What a tile reads of a row fits into registers, and a multiply-add takes its factor from a lane."""
        few = self.block == self.lanes or self.block * self.window.kernel[1] <= MOST_HELD
        return few and self.target.multiplies_by_lane

    @property
    def taps_kept(self) -> int:
        """Taps whose weights are in registers at once, unless inputs are."""
        taps = self.window.kernel[1]
        return taps if taps <= TAPS_KEPT * self.target.vector_registers else 1

    def vectors_read(self, offsets: Iterable[int], border: bool) -> Cover:
        """Vectors for the pixels that begin at `offsets` in a row; at a border all of the row may be read."""
        pixels = sorted(offsets)
        whole = 0, self.window.image[1] * self.block
        low, high = whole if border else (pixels[0], pixels[-1] + self.block)
        elements = (pixel + channel for pixel in pixels for channel in range(self.block))
        return cover(elements, self.lanes, low, high)

    def _held(self, columns: int) -> int:
        """Registers for what a tile reads of a row: all its taps, for the compiler loads what is adjacent together."""
        row = self.window.row
        read = {
            column * row.stride + tap * row.dilation for tap in range(row.taps) for column in range(columns)
        }
        return len(self.vectors_read((pixel * self.block for pixel in read), False).starts)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "columns": range(1, min(self.window.result[1], registers) + 1),
            "vectors": [v for v in range(1, 9) if self.groups == 1 or self.vectors % v == 0],
            "hold": (0, 1) if self.can_hold else (0,),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        outputs = self.window.result[1]
        if self.is_prepared:
            outputs = min(outputs, self._widest_strip)
        wide = like["vectors"] if like else None
        if not self.can_hold:
            columns, vectors = best_tile(
                outputs, self.vectors, self.target, weights=self.taps_kept, wide=wide
            )
            return {"columns": columns, "vectors": vectors, "hold": 0}
        held = Held(self._held, self.block * self.window.kernel[1])
        columns, vectors = best_tile(
            outputs, self.vectors, self.target, held=held, wide=wide, dtype=self.dtype
        )
        return {"columns": columns, "vectors": vectors, "hold": 1}

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [group, tile, block of channels, row tap, (lane, column tap), vectors * lanes]."""
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        weights = numbers[self.anchor.inputs[1]]  # type: ignore[index]
        packed = {weights: self._pack_weights(constants[weights], decision)}
        bias = self.anchor.input(2)
        if bias is not None:
            padded = np.zeros((self.groups, self.vectors * self.lanes), self.dtype)
            padded[:, : self.filters] = constants[numbers[bias]].reshape(self.groups, self.filters)
            packed[numbers[bias]] = padded.reshape(-1)
        return packed

    def _pack_weights(self, weights: np.ndarray, decision: Mapping[str, int]) -> np.ndarray:
        wide = decision["vectors"] * self.lanes
        tiles = -(-self.vectors // decision["vectors"])
        blocks, kernel = self.blocks, self.window.kernel
        full = np.zeros((self.groups, tiles * wide, blocks * self.block, *kernel), self.dtype)
        shape = (self.groups, self.filters, self.channels, *kernel)
        full[:, : self.filters, : self.channels] = weights.reshape(shape)
        split = full.reshape(self.groups, tiles, wide, blocks, self.block, *kernel)
        inner = (6, 4) if decision["hold"] else (4, 6)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 5, *inner, 2)).reshape(-1)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        kernel = PreparedKernel if self.is_prepared else ConvolutionKernel
        return kernel(self, decision).function()
