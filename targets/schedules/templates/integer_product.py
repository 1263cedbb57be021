"""Products of bytes with constant weights: MatMul of `graphopt.quant`, by `integer_panels`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import INTEGERS, product_of_bytes
from graphopt.targets.schedules.templates.dot import PACKINGS, stays_packed
from graphopt.targets.schedules.templates.integer_panels import (
    LONG_RUN,
    READ,
    IntegerPanelKernel,
    Panels,
    Reading,
    packed_readings,
    product_cycles,
    readings,
    tile_decision,
)
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel


@dataclass(frozen=True)
class IntegerProduct:
    """`rows` x `depth` bytes times constant `depth` x `width`; leading axes of `a` are rows too."""

    body: Graph
    anchor: Node
    target: Target
    rows: int
    depth: int
    width: int
    readings: tuple[Reading, ...]

    @property
    def name(self) -> str:
        return f"integer-product-{self.readings[self.defaults()['dot']].dot.name}"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> IntegerProduct | None:
        anchor = product_of_bytes(body, INTEGERS)
        if anchor is None:
            return None
        a, b, bias = anchor.input(0), anchor.input(1), anchor.input(2)
        assert a is not None and b is not None
        known = {body.inputs[number] for number in constants}
        if b not in known or b.rank != 2 or a.producer is not None or (a.rank or 0) < 2:
            return None
        if a.dtype.label not in READ or (bias is not None and bias not in known):
            return None
        depth, width = b.static_shape
        rows = math.prod(a.static_shape[:-1])
        if not (rows and depth and width):
            return None
        weights = constants[body.inputs.index(b)]
        plain = readings(target, a.dtype.label, weights, LONG_RUN)
        sizes = rows, depth, width, target
        for packing in PACKINGS:
            packed = packed_readings(plain, weights.T, packing)
            if packed:
                cycles, before = (product_cycles(choices, *sizes) for choices in (packed, plain))
                if stays_packed(cycles, before, weights.size, packing, target):
                    return cls(body, anchor, target, rows, depth, width, packed)
        return cls(body, anchor, target, rows, depth, width, plain)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "dot": range(len(self.readings)),
            "columns": range(1, min(self.rows, registers) + 1),
            "vectors": range(1, registers + 1),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return tile_decision(self.readings, self.rows, self.depth, self.width, self.target, like)

    def number(self, operand: int) -> int:
        """Which of the body's inputs it is."""
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    def panels(self, decision: Mapping[str, int]) -> Panels:
        dot = self.readings[decision["dot"]].dot
        bits = self.body.inputs[self.number(1)].dtype.bits
        return Panels(dot, self.depth, self.width, decision["vectors"], bits)

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The weights and all of the bias in panels; nothing is left of the bias itself."""
        zero = self.anchor.int("a_zero_point") + self.readings[decision["dot"]].shift
        has_bias = self.anchor.input(2) is not None
        bias = constants[self.number(2)] if has_bias else None
        packed = {self.number(1): self.panels(decision).pack(constants[self.number(1)], bias, zero)}
        return {**packed, self.number(2): np.zeros(1, np.int32)} if has_bias else packed

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        panels, shift = self.panels(decision), self.readings[decision["dot"]].shift
        sizes = {self.number(1): panels.all_elements}
        if self.anchor.input(2) is not None:
            sizes[self.number(2)] = 1

        def emit(buffers: Buffers) -> None:
            columns = decision["columns"]
            kernel = IntegerPanelKernel(
                self.body, self.anchor, panels, self.rows, columns, shift, buffers, self.target
            )
            kernel.b = buffers[self.anchor.inputs[1]]  # type: ignore[index]
            kernel.emit()

        return build_kernel(self.body, emit, sizes)
