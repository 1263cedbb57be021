"""Transposed convolution on blocked images: for each phase of the stride a direct convolution without strides.

    y[s j + p] = sum over taps t with (p + pad - d t) mod s = 0 of  w[t] x[j + (p + pad - d t) / s]

The outputs of one phase p, every s-th of a row, read neighbouring inputs, by the taps of their own. So no zeros are
spread among the inputs, and none are multiplied. Source: Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", 2016.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.convolution import transposed_pads
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.convolution import MOST_TAPS, DirectConvolution
from graphopt.targets.schedules.templates.convolution_kernel import ConvolutionKernel
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.window import Pair, Window


@dataclass(frozen=True)
class Axis:
    """One phase along an axis: `outputs` that read `taps` of the kernel, from left to right, `dilation` inputs apart;
    the first one `pad` inputs before the output's own place."""

    phase: int
    outputs: int
    taps: tuple[int, ...]
    dilation: int
    pad: int

    @classmethod
    def of(cls, phase: int, size: int, kernel: int, stride: int, dilation: int, pad: int) -> Axis:
        taps = [t for t in reversed(range(kernel)) if (phase + pad - dilation * t) % stride == 0]
        first = (phase + pad - dilation * taps[0]) // stride if taps else 0
        outputs = -(-(size - phase) // stride)
        return cls(phase, outputs, tuple(taps), dilation // math.gcd(stride, dilation), -first)


@dataclass(frozen=True)
class PhaseWindow(Window):
    """The windows of one phase: its output (row, column) is the pixel `spacing` * (row, column) + `phase`."""

    spacing: Pair = (1, 1)
    phase: Pair = (0, 0)

    def pixel(self, row: Expr, column: Expr) -> list[Expr]:
        return super().pixel(row * self.spacing[0] + self.phase[0], column * self.spacing[1] + self.phase[1])


Taps = tuple[tuple[int, ...], tuple[int, ...]]
"""The taps of the kernel, by axis, that are the weights of a phase."""


@dataclass(frozen=True)
class Phase:
    """A direct convolution, and its taps."""

    layer: DirectConvolution
    taps: Taps


def weights_of_phase(whole: np.ndarray, taps: Taps) -> np.ndarray:
    """Of a kernel (C, M, rows, columns) or (C, M, columns), as (M, C, rows, columns)."""
    whole = whole.reshape(*whole.shape[:2], *(1,) * (4 - whole.ndim), *whole.shape[2:])
    rows, columns = taps
    return np.ascontiguousarray(whole[:, :, rows][:, :, :, columns].transpose(1, 0, 2, 3))


@dataclass(frozen=True)
class TransposedConvolution:
    """A transposed convolution whose output is in blocks; the input is plain or in blocks of any size."""

    body: Graph
    anchor: Node
    phases: tuple[Phase, ...] = field(repr=False)
    name: str = "transposed-convolution"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> TransposedConvolution | None:
        anchor = Anchor.of(body, "ConvTranspose")
        if anchor is None or anchor.groups != 1:
            return None
        phases = _phases(body, anchor, target)
        if any(not 0 < len(taps) <= MOST_TAPS for phase in phases for taps in phase.taps):
            return None
        return cls(body, anchor.node, phases)

    # --- decisions ---

    @property
    def _largest(self) -> DirectConvolution:
        """The phase with most taps: it decides for all."""
        return max((phase.layer for phase in self.phases), key=lambda layer: layer.window.taps)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return self._largest.decisions()

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return self._largest.defaults(like)

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The weights of each phase as a direct convolution has them, one phase after the other."""
        number = self._number(1)
        packed: dict[int, np.ndarray] = {}
        parts = []
        for phase in self.phases:
            weights = weights_of_phase(constants[number], phase.taps)
            packed = phase.layer.pack(decision, {**constants, number: weights})
            parts.append(packed[number])
        return {**packed, number: np.concatenate(parts)}

    def _number(self, operand: int) -> int:
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes: dict[int, int] = {}
        kernels = []
        first = 0
        for phase in self.phases:
            kernel = ConvolutionKernel(phase.layer, decision, first)
            sizes = kernel.sizes()
            first += sizes[self._number(1)]
            kernels.append(kernel)
        sizes[self._number(1)] = first

        def emit(buffers: Buffers) -> None:
            for kernel in kernels:
                kernel.emit(buffers)

        return build_kernel(self.body, emit, sizes)


def _phases(body: Graph, anchor: Anchor, target: Target) -> tuple[Phase, ...]:
    block = anchor.read.block if anchor.read else 1
    sizes = 1, anchor.channels, block, anchor.made.channels, anchor.made.block
    return tuple(
        Phase(DirectConvolution(body, anchor.node, target, window, *sizes), taps)
        for window, taps in phase_windows(anchor)
    )


def phase_windows(anchor: Anchor) -> list[tuple[PhaseWindow, Taps]]:
    """The windows of every phase of a transposed convolution, and their taps."""
    node, kernel, image = anchor.node, anchor.kernel, anchor.image
    result, rank = node.output.static_shape[2:-1], len(kernel)
    ones = (1,) * rank
    strides, dilations = node.ints("strides", ones) or ones, node.ints("dilations", ones) or ones
    begin, _ = transposed_pads(node, image, kernel, strides, dilations, result)
    axes = [
        [Axis.of(phase, *geometry) for phase in range(min(geometry[2], geometry[0]))]
        for geometry in zip(result, kernel, strides, dilations, begin, strict=True)
    ]
    if rank == 1:
        image, strides = (1, *image), (1, *strides)
        axes.insert(0, [Axis(0, 1, (0,), 1, 0)])
    found = []
    for rows, columns in itertools.product(*axes):
        window = PhaseWindow(
            rank,
            image=(image[0], image[1]),
            result=(rows.outputs, columns.outputs),
            kernel=(len(rows.taps), len(columns.taps)),
            dilations=(rows.dilation, columns.dilation),
            pads=(rows.pad, columns.pad),
            spacing=(strides[0], strides[1]),
            phase=(rows.phase, columns.phase),
        )
        found.append((window, (rows.taps, columns.taps)))
    return found
