"""Transposed convolution of bytes: for each phase of the stride a direct convolution, as in `transposed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.convolution import MOST_TAPS
from graphopt.targets.schedules.templates.integer_convolution import IntegerConvolution, best_layer
from graphopt.targets.schedules.templates.integer_kernel import IntegerKernel
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.starts import BLOCK, Starts
from graphopt.targets.schedules.templates.transposed import PhaseWindow, Taps, phase_windows, weights_of_phase


@dataclass(frozen=True)
class IntegerTransposed:
    """A transposed convolution of bytes in whole blocks; its phases share a dot product."""

    body: Graph
    anchor: Node
    layers: tuple[IntegerConvolution, ...] = field(repr=False)
    taps: tuple[Taps, ...]

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> IntegerTransposed | None:
        anchor = Anchor.of_bytes(body, "ConvTranspose")
        if anchor is None or anchor.read is None or anchor.read.block != BLOCK or anchor.groups != 1:
            return None
        weights = constants.get(body.inputs.index(anchor.weights))
        phases = phase_windows(anchor)
        if weights is None or any(not 0 < len(t) <= MOST_TAPS for _, taps in phases for t in taps):
            return None
        zero = anchor.node.int("x_zero_point")

        def starts(window: PhaseWindow) -> Starts:
            return Starts.of(window, zero)

        largest = max((window for window, _ in phases), key=lambda window: window.taps)
        like = best_layer(body, anchor, target, largest, starts(largest), weights)
        layers = tuple(replace(like, window=window, starts=starts(window)) for window, _ in phases)
        return cls(body, anchor.node, layers, tuple(taps for _, taps in phases))

    @property
    def name(self) -> str:
        return f"integer-transposed-{self._largest.dot.name}"

    # --- decisions ---

    @property
    def _largest(self) -> IntegerConvolution:
        """The phase with most taps: it decides for all."""
        return max(self.layers, key=lambda layer: layer.window.taps)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return self._largest.decisions()

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return self._largest.defaults(like)

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights and starts of each phase as a direct convolution has them, one phase after the other."""
        number = self._number(1)
        parts = [
            layer.pack(decision, {**constants, number: weights_of_phase(constants[number], taps)})
            for layer, taps in zip(self.layers, self.taps, strict=True)
        ]
        return {operand: np.concatenate([part[operand] for part in parts]) for operand in parts[0]}

    def _number(self, operand: int) -> int:
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes: dict[int, int] = {}
        kernels = []
        for layer in self.layers:
            first = sizes.get(self._number(1), 0)
            starts = sizes.get(self._number(2), 0) if self.anchor.input(2) is not None else 0
            kernels.append(IntegerKernel(layer, decision, first, starts))
            own = kernels[-1].sizes()
            sizes = {operand: sizes.get(operand, 0) + size for operand, size in own.items()}

        def emit(buffers: Buffers) -> None:
            x = None
            for kernel in kernels:
                kernel.emit(buffers, x)
                x = kernel.x

        return build_kernel(self.body, emit, sizes)
