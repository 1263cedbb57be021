"""Weights that lie in flash without their zeros: `firmware/c_sparse.py`, and the layers that are worth it.

A weight that is not zero takes a few instructions to find, so that a layer of 90 % zeros takes fewer instructions than
all its products by pairs, and one of 50 % two or three times as many. A layer is kept so where that is a quarter
smaller at least, and takes few instructions more, by estimate, for a byte that it saves: dense layers do from about
65 % zeros on, convolutions, which use a weight many times, where they get no slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.firmware.c_sparse import WORD
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.channels_last.convolution import ChannelsLastConvolution
from graphopt.targets.schedules.templates.channels_last.inner import CALL, Shape, call, inner_for
from graphopt.targets.schedules.templates.channels_last.layer import Layer, convolution_of, product_of
from graphopt.targets.schedules.templates.channels_last.plan import plans
from graphopt.targets.schedules.templates.dot.pointer import Pointer

SMALLER = 0.75
"""Share of a layer's bytes from which on its zeros are left out."""

PRICE = 4
"""Instructions that may be added for each byte saved."""

FOUND, WORD_READ = 6, 8
"""Instructions to find a weight that is not zero, beside those for its products; for each word of a bitmap."""

COUNTS_ZEROS = ("thumbv7", "thumbv8m.main", "thumbv8.1m")
"""Triples of cores that find the next bit in one instruction (clz)."""


@dataclass(frozen=True)
class Sparse:
    """Any core: weights that are not zero, one after the other. `kept` is their share."""

    kept: float
    element: str
    counts_zeros: bool
    name: str = "sparse"
    depth: int = 1
    shapes: Sequence[Shape] = ((4, 1), (3, 1), (2, 1), (1, 1))
    bits: ClassVar[int] = 8
    shift: ClassVar[int] = 0

    def pack(self, weights: np.ndarray) -> np.ndarray:
        *_, channels, run = weights.shape
        runs = weights.reshape(-1, channels, run)
        words = -(-run // WORD) * WORD
        bits = np.zeros((len(runs), channels, words), bool)
        bits[..., :run] = runs != 0
        maps = np.packbits(bits, axis=-1).reshape(len(runs), -1).view(">u4").astype("<u4").view(np.int8)
        pieces = [np.concatenate([bitmap, one[one != 0]]) for bitmap, one in zip(maps, runs, strict=True)]
        sizes = [4 * len(pieces), *map(len, pieces)]
        table = np.cumsum(sizes[:-1]).astype("<i4").view(np.int8)
        return np.concatenate([table, *pieces]).astype(np.int8)

    def add(
        self,
        sums: tirx.Var,
        shape: Shape,
        x: Pointer,
        step: Expr | int,
        weights: Pointer,
        number: Expr,
        run: int,
    ) -> None:
        kind = "sparse_products" if self.element == "int8" else "short_sparse_products"
        call(f"{kind}_{shape[0]}x{shape[1]}", sums, x, step, weights, number, run)

    def instructions(self, shape: Shape, run: int) -> float:
        pixels, channels = shape
        looked_at = WORD_READ * -(-run // WORD) + (0 if self.counts_zeros else 4 * run)
        return CALL + channels * (6 + looked_at + self.kept * run * (FOUND + 2 * pixels))


@dataclass(frozen=True)
class SparseConvolution(ChannelsLastConvolution):
    """A layer whose zeros are left out. `weights` (filters, channels, rows, columns) are what they were."""

    weights: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8), compare=False, repr=False)
    family: str = "convolution"
    is_transposed: ClassVar[bool] = False

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> SparseConvolution | None:
        layer = cls._layer(body, constants)
        if (
            layer is None
            or not target.is_firmware
            or (layer.groups > 1 and layer.channels == layer.filters == 1)
        ):
            return None
        given = constants[layer.number(1)]
        weights = np.ascontiguousarray(given.T) if cls.is_transposed else given
        inner = Sparse(float((weights != 0).mean()), layer.dtype, target.triple.startswith(COUNTS_ZEROS))
        found = cls(layer, inner, weights=weights)
        dense = min(plan.instructions for plan in plans(layer, inner_for(target, layer.dtype)))
        plan = found._plan(found.defaults())
        packed = found._packed(found.defaults()).size
        is_cheap = plan.instructions <= dense + PRICE * (weights.size - packed)
        return found if packed <= SMALLER * weights.size and is_cheap else None

    @staticmethod
    def _layer(body: Graph, constants: Mapping[int, np.ndarray]) -> Layer | None:
        return convolution_of(body, constants)

    def weight_elements(self, decision: Mapping[str, int]) -> int:
        return self._packed(decision).size

    def _packed(self, decision: Mapping[str, int]) -> np.ndarray:
        return self._plan(decision).pack(super()._by_filter(self.weights))


@dataclass(frozen=True)
class SparseProduct(SparseConvolution):
    """MatMul of `graphopt.quant` alike."""

    family: str = "product"
    is_transposed: ClassVar[bool] = True

    @staticmethod
    def _layer(body: Graph, constants: Mapping[int, np.ndarray]) -> Layer | None:
        return product_of(body, constants)

    def _by_filter(self, weights: np.ndarray) -> np.ndarray:
        return super()._by_filter(np.ascontiguousarray(weights.T))
