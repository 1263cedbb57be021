"""Direct convolution of bytes in blocks: sums of 32 bits in registers over the whole reduction.

As `convolution` does it, with the dot product of the target's instruction set in place of a multiply-add (`dot`): it
takes a few neighbouring channels of an input at once. The zero point of the input is part of the number that a sum
starts with (`starts`), so that nothing is padded here either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.convolution import MOST_TAPS
from graphopt.targets.schedules.templates.dot import (
    PACKINGS,
    Dot,
    FewBitsDot,
    choose_dot,
    in_few_bits,
    stays_packed,
    tile_of,
)
from graphopt.targets.schedules.templates.dot.tile import DotTile
from graphopt.targets.schedules.templates.epilogue import reads_by_pixel
from graphopt.targets.schedules.templates.gathered_kernel import GatheredKernel
from graphopt.targets.schedules.templates.integer_kernel import IntegerKernel
from graphopt.targets.schedules.templates.starts import BLOCK, Starts
from graphopt.targets.schedules.templates.window import Window, window_of_image

DEPTHS = (16, 8, 4)
"""Channels of a step that are tried."""

AFTER_ONE_STEP = 8
"""Columns of a tile whose sums are finished after a step, and need not stay in registers for another."""

WIDEST = 8
"""Vectors of channels in a tile at most."""


@dataclass(frozen=True)
class IntegerConvolution:
    """A convolution of bytes: `filters` from `channels`, in blocks of `block`, for each of `groups`."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    groups: int
    channels: int
    block: int
    filters: int
    dot: Dot
    starts: Starts

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> IntegerConvolution | None:
        anchor = Anchor.of_bytes(body)
        if anchor is None or anchor.read is None or anchor.kernel[-1] > MOST_TAPS:
            return None
        node, groups = anchor.node, anchor.groups
        weights = constants.get(body.inputs.index(anchor.weights))
        block = anchor.read.block
        if weights is None or groups > 1 and anchor.channels // groups % BLOCK:
            return None
        if block != BLOCK and anchor.read.blocks > 1:
            return None
        window = window_of_image(node, anchor.image, anchor.kernel)
        by_pixel = reads_by_pixel(body, node, range(2, 2 + len(anchor.kernel)))
        if block == BLOCK and window.is_pointwise and not by_pixel:
            window = window.flat()
        starts = Starts.of(window, node.int("x_zero_point"))
        return best_layer(body, anchor, target, window, starts, weights).packed_where_short(weights)

    def packed_where_short(self, weights: np.ndarray) -> IntegerConvolution:
        """The same with weights of few bits as short as they are, unless unpacking takes too long."""
        dots = [
            choose_dot(self.target, self._dtype, weights, depth, self.window.result[1]) for depth in DEPTHS
        ]
        for packing in PACKINGS:
            packed = [
                in_few_bits(dot, depth, weights, packing) for dot, depth in zip(dots, DEPTHS, strict=True)
            ]
            layers = [replace(self, dot=dot) for dot in packed if dot is not None]
            best = min(layers, key=lambda layer: layer.cycles, default=self)
            if layers and stays_packed(best.cycles, self.cycles, weights.size, packing, self.target):
                return best
        return self

    def beats(self, cycles: float, weights: np.ndarray) -> bool:
        """Whether it is better than a kernel of so many cycles with weights in bytes: faster, or as good with fewer."""
        if isinstance(self.dot, FewBitsDot):
            return stays_packed(self.cycles, cycles, weights.size, self.dot.packing, self.target)
        return self.cycles <= cycles

    @property
    def _dtype(self) -> str:
        x = self.anchor.inputs[0]
        assert x is not None
        return x.dtype.label

    @property
    def cycles(self) -> float:
        """Estimated, of all sums."""
        batch = self.anchor.output.static_shape[0]
        return batch * self.groups * self.window.result[0] * self.tile().cycles * self.all_steps

    @property
    def name(self) -> str:
        return f"integer-convolution-{self.dot.name}"

    @property
    def gathers(self) -> bool:
        """The windows are put together first: there are few channels, all of them in a small block."""
        return self.block != BLOCK

    @property
    def blocks(self) -> int:
        """Blocks of channels that a group reads; windows that are put together are one."""
        return -(-self.channels // self.block)

    @property
    def kernel(self) -> tuple[int, int]:
        """Taps of a block; those of windows that are put together are its channels."""
        return (1, 1) if self.gathers else self.window.kernel

    @property
    def unit(self) -> int:
        """Channels of a block, as many as steps take."""
        return self.steps * self.dot.depth

    @property
    def steps(self) -> int:
        """Steps of the dot product in a block."""
        return -(-self.block * (self.window.taps if self.gathers else 1) // self.dot.depth)

    @property
    def all_steps(self) -> int:
        """Steps for an output."""
        if self.gathers:
            return self.steps
        whole, rest = divmod(self.channels, self.block)
        return self.window.taps * (whole * self.steps + -(-rest // self.dot.depth))

    @property
    def starts_beside_weights(self) -> bool:
        """There is no bias in whose place they are."""
        return self.anchor.input(2) is None and self.starts.zero != 0

    @property
    def vectors(self) -> int:
        """Vectors of output channels in a group."""
        return -(-self.filters // self.dot.lanes)

    # --- decisions ---

    def decisions(self) -> Mapping[str, Sequence[int]]:
        columns = range(1, min(self.window.result[1], self.target.vector_registers) + 1)
        return {"columns": columns, "vectors": self._widths()}

    def _widths(self) -> list[int]:
        """Vectors of a tile that fill a block, or whole ones, or half of one; all there are where they are fewer."""
        fitting = [v for v in range(1, min(WIDEST, self.vectors) + 1) if self._fills(v)]
        return fitting or [min(WIDEST, self.vectors)]

    def _fills(self, vectors: int) -> bool:
        if self.groups > 1 and self.vectors % vectors:
            return False
        return 2 * vectors * self.dot.lanes % BLOCK == 0 or vectors == self.vectors

    def tile(self, vectors: int | None = None) -> DotTile:
        """The best one, or the best of so many vectors."""
        choices = self._widths() if vectors is None else [vectors]
        return tile_of(self.dot, self.window.result[1], self.vectors, self.target, choices)

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        best = self.tile(like["vectors"] if like else None)
        columns = best.columns
        if self.all_steps == 1:
            columns = max(columns, min(self.window.result[1], AFTER_ONE_STEP))
        return {"columns": columns, "vectors": best.vectors}

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [group, tile, block of channels, row tap, column tap, step, vector], each vector as `dot` packs
        it, and behind them what `dot` has of each channel; starts as [start, group, vectors * lanes]."""
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        number = numbers[self.anchor.inputs[1]]  # type: ignore[index]
        weights, bias = constants[number], self.anchor.input(2)
        packed = {number: self._pack_weights(weights, decision["vectors"])}
        starts = self._pack_starts(weights, None if bias is None else constants[numbers[bias]])
        if bias is not None:
            packed[numbers[bias]] = starts
        elif self.starts_beside_weights:
            packed[number] = np.concatenate([starts.view(weights.dtype), packed[number]])
        return packed

    def _pack_starts(self, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        starts = self.starts.pack(weights.reshape(-1, self.channels, *self.window.kernel), bias)
        padded = np.zeros((self.starts.count, self.groups, self.vectors * self.dot.lanes), np.int32)
        padded[..., : self.filters] = starts.reshape(-1, self.groups, self.filters)
        return padded.reshape(-1)

    def _pack_weights(self, weights: np.ndarray, vectors: int) -> np.ndarray:
        dot, tiles = self.dot, -(-self.vectors // vectors)
        whole = self._by_channel(weights)
        filled = self.groups, tiles * vectors * dot.lanes, self.blocks * self.unit, *self.kernel
        full = np.zeros(filled, weights.dtype)
        full[:, : self.filters, : whole.shape[2]] = whole
        above, beside = dot.above_least(full.reshape(-1, *full.shape[2:]))
        split = above.reshape(
            self.groups, tiles, vectors, dot.lanes, self.blocks, self.steps, dot.depth, *self.kernel
        )
        packed = dot.pack(split.transpose(0, 1, 4, 7, 8, 5, 2, 3, 6)).reshape(-1)
        return np.concatenate([packed, beside.reshape(-1)]) if beside.size else packed

    def _by_channel(self, weights: np.ndarray) -> np.ndarray:
        """As (groups, filters, channels, *kernel); windows that are put together are channels."""
        whole = weights.reshape(self.groups, self.filters, self.channels, *self.window.kernel)
        if not self.gathers:
            return whole
        missing = self.block - self.channels
        filled = np.pad(whole, [(0, 0), (0, 0), (0, missing), (0, 0), (0, 0)])
        return filled.transpose(0, 1, 3, 4, 2).reshape(self.groups, self.filters, -1, 1, 1)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        kernel = GatheredKernel if self.gathers else IntegerKernel
        return kernel(self, decision).function()


def best_layer(
    body: Graph, anchor: Anchor, target: Target, window: Window, starts: Starts, weights: np.ndarray
) -> IntegerConvolution:
    """The convolution with the dot product that takes the fewest estimated cycles."""
    assert anchor.read is not None
    groups, block, dtype = anchor.groups, anchor.read.block, anchor.x.dtype.label
    sizes = groups, anchor.channels // groups, block, anchor.made.channels // groups
    layers = [
        IntegerConvolution(
            body,
            anchor.node,
            target,
            window,
            *sizes,
            choose_dot(target, dtype, weights, depth, window.result[1]),
            starts,
        )
        for depth in DEPTHS
    ]
    return min(layers, key=lambda layer: layer.cycles)
