"""Convolution of bytes as a product of matrices, for instructions that multiply whole ones (`dot.rows_read`).

Such an instruction reads a column's inputs as one long run. In an image in blocks a pixel's channels lie apart, so the
image is laid out anew first, each pixel with all its channels and a border around the image that holds the zero point.
The taps along a row of the kernel then follow one another in memory, for each output at the same distance from those of
its neighbour: nothing is put together, the instruction's stride does it.

    image (rows, pitch, channels)       output p reads, for each row of taps, kernel width x channels from p on

Without strides outputs are numbered as the pixels of the image that they begin at, so that a tile runs over the end of
a row; what lies between the rows is computed and not stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from tvm import tirx

from graphopt.ir import DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.dot import Dot, fitting_dots
from graphopt.targets.schedules.templates.integer_convolution import IntegerConvolution
from graphopt.targets.schedules.templates.integer_panels import LONG_RUN, Panels
from graphopt.targets.schedules.templates.unblocked_kernel import UnblockedKernel
from graphopt.targets.schedules.templates.window import Window, window_of_image

COPIED_PER_CYCLE = 8
"""Bytes of an image that is laid out anew."""

TILE_CYCLES = 60
"""Of a tile before its first step and behind its last."""

MOST_COLUMNS, MOST_VECTORS = 64, 4


@dataclass(frozen=True)
class UnblockedConvolution:
    """`filters` from `channels` in blocks of `block`."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    channels: int
    block: int
    filters: int
    dot: Dot

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> UnblockedConvolution | None:
        anchor = Anchor.of_bytes(body)
        if (
            anchor is None
            or anchor.read is None
            or anchor.groups > 1
            or anchor.weights.dtype is not DType.int8
        ):
            return None
        weights = constants.get(body.inputs.index(anchor.weights))
        window = _sampled(window_of_image(anchor.node, anchor.image, anchor.kernel))
        if weights is None or window is None:
            return None
        dot = fitting_dots(target, anchor.x.dtype.label, weights, LONG_RUN)[0]
        if dot.rows_read == 1:
            return None
        sizes = anchor.channels, anchor.read.block, anchor.made.channels
        layer = cls(body, anchor.node, target, window, *sizes, dot)
        blocked = IntegerConvolution.match(body, constants, target)
        return None if blocked is not None and blocked.beats(layer.cycles(), weights) else layer

    @property
    def name(self) -> str:
        return f"integer-unblocked-{self.dot.name}"

    # --- the image that is laid out anew ---

    @property
    def pixel(self) -> int:
        """Bytes of a pixel, with all its channels."""
        return -(-self.channels // self.block) * self.block

    @property
    def is_sampled(self) -> bool:
        """Of a pointwise convolution only the pixels that it reads are copied."""
        return self.window.kernel == (1, 1)

    @cached_property
    def strides(self) -> tuple[int, int]:
        return (1, 1) if self.is_sampled else self.window.strides

    @cached_property
    def image(self) -> tuple[int, int]:
        """Its rows, and the pixels of a row, as far as windows reach."""
        reach = [
            (outputs - 1) * stride + (taps - 1) * dilation + 1
            for outputs, stride, taps, dilation in zip(
                self.window.result, self.strides, self.window.kernel, self.window.dilations, strict=True
            )
        ]
        return reach[0], reach[1]

    # --- the product ---

    @property
    def runs(self) -> int:
        """Stretches that an output reads of a row of the image."""
        return 1 if self.window.dilations[1] == 1 else self.window.kernel[1]

    @property
    def run(self) -> int:
        """Bytes of a stretch."""
        return self.window.kernel[1] // self.runs * self.pixel

    @property
    def steps(self) -> int:
        """Steps of the dot product for a stretch; weights of zero fill the last one up."""
        return -(-self.run // self.dot.depth)

    @property
    def depth(self) -> int:
        return self.window.kernel[0] * self.runs * self.steps * self.dot.depth

    @cached_property
    def pitch(self) -> int:
        """Outputs from a row to the next as tiles count them: those between rows count where that makes fewer tiles."""
        rows, columns = self.window.result
        if self.strides != (1, 1) or rows == 1:
            return columns
        at_once = self.dot.rows_read
        over_rows = -(-((rows - 1) * self.image[1] + columns) // at_once)
        return self.image[1] if over_rows < rows * -(-columns // at_once) else columns

    @property
    def runs_over_rows(self) -> bool:
        """Tiles run over the ends of rows, or there are none."""
        return self.window.result[0] == 1 or self.pitch == self.image[1]

    @property
    def outputs(self) -> int:
        """That tiles follow one another along, of each of `lines`."""
        rows, columns = self.window.result
        return (rows - 1) * self.pitch + columns if self.runs_over_rows else columns

    @property
    def lines(self) -> int:
        return 1 if self.runs_over_rows else self.window.result[0]

    # --- decisions ---

    def decisions(self) -> Mapping[str, Sequence[int]]:
        step = self.dot.rows_read
        return {
            "columns": range(step, MOST_COLUMNS + 1, step),
            "vectors": range(1, min(MOST_VECTORS, -(-self.filters // self.dot.lanes)) + 1),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        choices = self.decisions()
        tiles = [
            {"columns": columns, "vectors": vectors}
            for columns in choices["columns"]
            for vectors in ([like["vectors"]] if like else choices["vectors"])
            if self.dot.registers(columns, vectors) <= self.target.vector_registers
        ]
        return min(tiles, key=self._product_cycles)

    def cycles(self) -> float:
        """Estimated, of all sums and of the image's way."""
        copied = self.image[0] * self.image[1] * self.pixel / COPIED_PER_CYCLE
        return self.batch * (copied + self._product_cycles(self.defaults()))

    def _product_cycles(self, tile: Mapping[str, int]) -> float:
        columns, vectors = tile["columns"], tile["vectors"]
        panels = -(-self.filters // (vectors * self.dot.lanes))
        step = self.dot.cycles(columns, vectors, self.target)
        tiles = self.lines * -(-self.outputs // columns) * panels
        return tiles * (self.depth // self.dot.depth * step + TILE_CYCLES)

    @property
    def batch(self) -> int:
        return self.anchor.output.static_shape[0]

    # --- weights ---

    def panels(self, decision: Mapping[str, int]) -> Panels:
        return Panels(self.dot, self.depth, self.filters, decision["vectors"], 8)

    def number(self, operand: int) -> int:
        """Which of the body's inputs it is."""
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The weights and all of the bias in panels; nothing is left of the bias itself."""
        has_bias = self.anchor.input(2) is not None
        bias = constants[self.number(2)] if has_bias else None
        matrix = self._matrix(constants[self.number(1)])
        if bias is not None:
            bias = bias.reshape(-1)[: self.filters]
        packed = {self.number(1): self.panels(decision).pack(matrix, bias, self.anchor.int("x_zero_point"))}
        return {**packed, self.number(2): np.zeros(1, np.int32)} if has_bias else packed

    def _matrix(self, weights: np.ndarray) -> np.ndarray:
        """(depth, filters): rows of taps, stretches, what a stretch reads filled up to whole steps."""
        down, across = self.window.kernel
        whole = weights.reshape(self.filters, self.channels, down, across).transpose(0, 2, 3, 1)
        whole = np.pad(whole, [(0, 0), (0, 0), (0, 0), (0, self.pixel - self.channels)])
        stretches = whole.reshape(self.filters, down, self.runs, self.run)
        missing = self.steps * self.dot.depth - self.run
        filled = np.pad(stretches, [(0, 0), (0, 0), (0, 0), (0, missing)])
        return filled.reshape(self.filters, self.depth).T

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return UnblockedKernel(self, decision).function()


def _sampled(window: Window) -> Window | None:
    """The window that is worked on; None where the image would be cut, is behind all windows, or a pointwise one has a
    border."""
    reach = (window.result[1] - 1) * window.strides[1] + (window.kernel[1] - 1) * window.dilations[1] + 1
    if min(window.pads) < 0 or window.pads[1] > reach:
        return None
    if window.kernel != (1, 1):
        return window
    inside = all(
        (outputs - 1) * stride < size
        for outputs, stride, size in zip(window.result, window.strides, window.image, strict=True)
    )
    return replace(window, dilations=(1, 1)) if inside and window.pads == (0, 0) else None
