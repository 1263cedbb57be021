"""Products of int8 with constant weights by `helium_product`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import DType, Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.anchor import product_of_bytes
from graphopt.targets.schedules.templates.helium.calls import add, at, call
from graphopt.targets.schedules.templates.helium.operands import Operands
from graphopt.targets.schedules.templates.helium.packing import (
    fits_bytes,
    pack_product,
    product_words,
    starts,
)
from graphopt.targets.schedules.templates.helium.requantization import Tail, has_helium, values_of
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel

BYTES = (DType.int8, DType.int16, DType.int32)


@dataclass(frozen=True)
class HeliumProduct:
    """`rows` x `depth` bytes times constant `depth` x `width`; leading axes of the first operand are rows too."""

    body: Graph
    operands: Operands
    zero_point: int
    rows: int
    depth: int
    width: int
    tail: Tail
    name: str = "helium-product"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> HeliumProduct | None:
        anchor = product_of_bytes(body, BYTES) if has_helium(target) else None
        if anchor is None:
            return None
        known = values_of(body, constants)
        tail = Tail.of(body, anchor, known)
        operands = Operands.of(body, anchor, tail, known)
        if tail is None or operands is None or operands.weights.rank != 2:
            return None
        x = operands.x
        if x.dtype is not DType.int8 or x.producer is not None or not fits_bytes(known[operands.weights]):
            return None
        rows, (depth, width) = math.prod(x.static_shape[:-1]), operands.weights.static_shape
        if not (rows and depth and width):
            return None
        return cls(body, operands, anchor.int("a_zero_point"), rows, depth, width, tail)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        weights, bias = self.operands.read(values_of(self.body, constants))
        numbers = starts(weights.T, bias, self.zero_point), self.tail.multipliers(self.width)
        return self.operands.packed(pack_product(weights.T, *numbers))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes, types = self.operands.declared(product_words(self.depth, self.width))
        return build_kernel(self.body, self._emit, sizes, types)

    def _emit(self, buffers: Buffers) -> None:
        x, packed = at(buffers[self.operands.x], 0), at(buffers[self.operands.weights], 0)
        result = at(buffers[self.body.outputs[0]], 0)
        sizes = self.depth, self.width, result, self.width
        call("product", x, self.depth, self.rows, packed, *sizes, *self.tail.first.cut)
        if self.tail.added is not None:
            add(self.tail.added, buffers, self.rows * self.width)
