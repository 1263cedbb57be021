"""Products of int8 with constant weights by `helium_product`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import product_of_bytes
from graphopt.targets.schedules.templates.helium.calls import Pointer, add, at, call
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import (
    KINDS,
    bits_of,
    named,
    pack_product,
    product_words,
    starts,
)
from graphopt.targets.schedules.templates.helium.requantization import Tail, has_helium, values_of
from graphopt.targets.schedules.templates.helium.rest import Rest
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, taken_apart

BYTES = (DType.int8, DType.int16, DType.int32)


@dataclass(frozen=True)
class HeliumProduct:
    """`rows` x `depth` bytes times constant `depth` x `width`; leading axes of the first operand are rows too."""

    body: Graph
    anchor: Node
    operands: Operands
    rows: int
    depth: int
    width: int
    tail: Tail | None
    bits: int

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> HeliumProduct | None:
        anchor = product_of_bytes(body, BYTES) if has_helium(target) else None
        if anchor is None:
            return None
        known = values_of(body, constants)
        tail = Tail.of(body, anchor, known)
        operands = Operands.of(body, anchor, tail, known)
        if operands is None or operands.weights.rank != 2:
            return None
        x = operands.x
        if x.dtype is not DType.int8 or x.producer is not None:
            return None
        rows, (depth, width) = math.prod(x.static_shape[:-1]), operands.weights.static_shape
        if not (rows and depth and width):
            return None
        weights, bias = operands.read(known)
        bits = bits_of(weights.T, starts(weights.T, bias, anchor.int("a_zero_point")))
        return cls(body, anchor, operands, rows, depth, width, tail, bits)

    @property
    def name(self) -> str:
        return named("helium-product" if self.tail else "helium-product-sums", self.bits)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        weights, bias = self.operands.read(values_of(self.body, constants))
        multipliers = self.operands.multipliers(self.tail, self.width)
        numbers = starts(weights.T, bias, self.anchor.int("a_zero_point")), multipliers
        return self.operands.packed(pack_product(weights.T, *numbers, bits=self.bits))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes, types = self.operands.declared(product_words(self.depth, self.width, self.bits))
        return build_kernel(self.body, self._emit, sizes, types)

    def _emit(self, buffers: Buffers) -> None:
        x, packed = buffers[self.operands.x], at(buffers[self.operands.weights], 0)
        sizes = self.depth, self.width
        if self.tail is not None:
            result = at(buffers[self.body.outputs[0]], 0)
            call(
                KINDS[self.bits] + "product",
                at(x, 0),
                self.depth,
                self.rows,
                packed,
                *sizes,
                result,
                self.width,
                *self.tail.first.cut,
            )
            if self.tail.added is not None:
                add(self.tail.added, buffers, self.rows * self.width)
            return
        rest = Rest(self.body, self.anchor, buffers, self.width)

        def sums(first: Expr | int, rows: int, made: Pointer) -> None:
            call(
                KINDS[self.bits] + "sums",
                at(x, first * self.depth),
                self.depth,
                rows,
                packed,
                *sizes,
                made,
                rest.room,
            )

        leading = self.anchor.output.static_shape[:-1]
        rest.finish(self.rows, self.width, sums, lambda row, column: [*taken_apart(row, *leading), column])
