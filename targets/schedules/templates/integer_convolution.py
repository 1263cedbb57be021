"""Direct convolution of bytes in blocks: sums of 32 bits in registers over the whole reduction.

As `convolution` does it, with the dot product of the target's instruction set in place of a multiply-add (`dot`): it
takes a few neighbouring channels of an input at once. The zero point of the input is part of the number that a sum
starts with (`starts`), so that nothing is padded here either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.convolution import MOST_TAPS
from graphopt.targets.schedules.templates.dot import Dot, best_dot_tile, choose_dot
from graphopt.targets.schedules.templates.epilogue import reads_by_pixel
from graphopt.targets.schedules.templates.integer_kernel import IntegerKernel
from graphopt.targets.schedules.templates.starts import BLOCK, Starts
from graphopt.targets.schedules.templates.window import Window, window_of_image

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
        if weights is None or groups > 1 and anchor.channels // groups % BLOCK:
            return None
        window = window_of_image(node, anchor.image, anchor.kernel)
        if window.is_pointwise and not reads_by_pixel(body, node, range(2, node.output.rank - 1)):  # type: ignore[operator]
            window = window.flat()
        starts = Starts.of(window, node.int("x_zero_point"))
        if node.input(2) is None and starts.zero:
            return None
        dot = choose_dot(target, anchor.x.dtype.label, weights, anchor.read.block, window.result[1])
        sizes = groups, anchor.channels // groups, anchor.read.block, anchor.made.channels // groups
        return cls(body, node, target, window, *sizes, dot, starts)

    @property
    def name(self) -> str:
        return f"integer-convolution-{self.dot.name}"

    @property
    def blocks(self) -> int:
        """Blocks of channels that a group reads."""
        return -(-self.channels // self.block)

    @property
    def steps(self) -> int:
        """Steps of the dot product in a block."""
        return self.block // self.dot.depth

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

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        choices = [like["vectors"]] if like else self._widths()
        sizes = self.window.result[1], self.vectors
        columns, vectors = best_dot_tile(self.dot, *sizes, self.target, choices)
        return {"columns": columns, "vectors": vectors}

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [group, tile, block of channels, row tap, column tap, step, vector], each vector as `dot` packs
        it; starts as [start, group, vectors * lanes]."""
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        weights = constants[numbers[self.anchor.inputs[1]]]  # type: ignore[index]
        whole = weights.reshape(self.groups, self.filters, self.channels, *self.window.kernel)
        packed = {numbers[self.anchor.inputs[1]]: self._pack_weights(whole, decision["vectors"])}  # type: ignore[index]
        bias = self.anchor.input(2)
        if bias is not None:
            by_filter = weights.reshape(-1, self.channels, *self.window.kernel)
            starts = self.starts.pack(by_filter, constants[numbers[bias]])
            padded = np.zeros((self.starts.count, self.groups, self.vectors * self.dot.lanes), np.int32)
            padded[..., : self.filters] = starts.reshape(-1, self.groups, self.filters)
            packed[numbers[bias]] = padded.reshape(-1)
        return packed

    def _pack_weights(self, weights: np.ndarray, vectors: int) -> np.ndarray:
        dot, kernel = self.dot, self.window.kernel
        tiles = -(-self.vectors // vectors)
        filled = (self.groups, tiles * vectors * dot.lanes, self.blocks * self.block, *kernel)
        full = np.zeros(filled, weights.dtype)
        full[:, : self.filters, : self.channels] = weights
        split = full.reshape(
            self.groups, tiles, vectors, dot.lanes, self.blocks, self.steps, dot.depth, *kernel
        )
        return dot.pack(split.transpose(0, 1, 4, 7, 8, 5, 2, 3, 6)).reshape(-1)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return IntegerKernel(self, decision).function()
