"""Matrix products with constant weights: MatMul and Gemm.

    y[m, n] = sum over k of a[m, k] * b[k, n]

The weights are packed in panels as wide as a tile, [panel][k][vectors * lanes], so that they are read once, in order.
Rows of `a` take the part that columns of an image have in a convolution. With a single row the product is as fast as
the weights arrive from memory, and the wide tile keeps several loads under way. Source: Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication", 2008.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import FLOATS, Epilogue, fits
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.multiply import Tile
from graphopt.targets.schedules.templates.panels import PanelKernel
from graphopt.targets.schedules.templates.tile import Held, best_tile

WIDEST = 8
"""Vectors of the widest panel."""

FEW_ROWS = 2
PARTS = 4
"""With few rows each sum is kept in so many parts: additions need not wait for each other, and rounding errors
grow with a quarter of the depth."""


@dataclass(frozen=True)
class PackedProduct:
    """`rows` x `depth` times constant `depth` x `width`; leading axes of `a` are rows too."""

    body: Graph
    anchor: Node
    target: Target
    rows: int
    depth: int
    width: int
    lanes: int
    name: str = "packed-product"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> PackedProduct | None:
        anchors = [node for node in body.nodes if node.is_op("Gemm", "MatMul")]
        if len(anchors) != 1 or not fits(body, anchors[0], FLOATS):
            return None
        (anchor,) = anchors
        a, b, c = anchor.input(0), anchor.input(1), anchor.input(2)
        assert a is not None and b is not None
        known = {body.inputs[number] for number in constants}
        if b not in known or b.rank != 2 or a.producer is not None or (a.rank or 0) < 2:
            return None
        depth, width = a.static_shape[-1], anchor.output.static_shape[-1]
        if anchor.int("transA") or not depth or not width:
            return None
        if c is not None and (c not in known or c.type is None or c.static_shape[-1:] != (width,)):
            return None
        if c is not None and c.type is not None and c.type.size != width:
            return None
        lanes = target.vector_bits // anchor.output.dtype.bits
        return cls(body, anchor, target, math.prod(a.static_shape[:-1]), depth, width, lanes)

    @property
    def dtype(self) -> str:
        """What is computed in."""
        return self.anchor.output.dtype.label

    @property
    def vectors(self) -> int:
        return -(-self.width // self.lanes)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "columns": range(1, min(self.rows, registers) + 1),
            "vectors": range(1, min(self.vectors, WIDEST) + 1),
            "hold": (0, 1) if self.target.multiplies_by_lane else (0,),
            "parts": (1, 2, PARTS),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        hold = self.target.multiplies_by_lane and self.depth >= self.lanes
        parts = PARTS if self.rows <= FEW_ROWS and self.depth >= PARTS else 1
        held = Held.along(self.lanes) if hold else None
        wide = like["vectors"] if like else None
        columns, vectors = best_tile(
            self.rows, self.vectors, self.target, held=held, parts=parts, wide=wide, dtype=self.dtype
        )
        return {"columns": columns, "vectors": vectors, "hold": int(hold), "parts": parts}

    def _number(self, operand: int) -> int:
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights times alpha as [panel, depth, vectors * lanes]; the bias times beta, filled up with zeros."""
        wide = decision["vectors"] * self.lanes
        panels = -(-self.vectors // decision["vectors"])
        weights = constants[self._number(1)]
        if self.anchor.int("transB"):
            weights = weights.T
        full = np.zeros((self.depth, panels * wide), self.dtype)
        full[:, : self.width] = weights * np.float32(self.anchor.float("alpha", 1.0))
        packed = full.reshape(self.depth, panels, wide).transpose(1, 0, 2)
        found = {self._number(1): np.ascontiguousarray(packed).reshape(-1)}
        if self.anchor.input(2) is not None:
            bias = np.zeros(self.vectors * self.lanes, self.dtype)
            bias[: self.width] = constants[self._number(2)].reshape(-1) * np.float32(
                self.anchor.float("beta", 1.0)
            )
            found[self._number(2)] = bias
        return found

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        panels = -(-self.vectors // decision["vectors"])
        sizes = {self._number(1): self.depth * panels * decision["vectors"] * self.lanes}
        if self.anchor.input(2) is not None:
            sizes[self._number(2)] = self.vectors * self.lanes
        return build_kernel(self.body, lambda buffers: _Kernel(self, decision, buffers).emit(), sizes)


class _Kernel(PanelKernel):
    """Writes one kernel."""

    def __init__(self, layer: PackedProduct, decision: Mapping[str, int], buffers: Buffers) -> None:
        self.layer = layer
        self.vectors = decision["vectors"]
        self.hold = bool(decision["hold"])
        self.parts = decision["parts"]
        wide = self.vectors * layer.lanes
        super().__init__(layer.body, layer.anchor, layer.rows, layer.width, decision["columns"], wide)
        a, b, c = (layer.anchor.input(number) for number in range(3))
        assert a is not None and b is not None
        self.a, self.b = buffers[a], buffers[b]
        self.c = None if c is None else buffers[c]
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)

    def emit(self) -> None:
        self.spread_tiles(self.rows * self.layer.depth * self.width)

    def tile(self, panel: Expr, start: Expr, columns: int, width: int) -> None:
        depth, lanes = self.layer.depth, self.layer.lanes
        tile = Tile(columns, -(-width // lanes), lanes, self.parts, self.layer.dtype)
        first = panel * self.vectors
        bias = self.c
        sums = tile.sums(None if bias is None else lambda vector, lane: bias[(first + vector) * lanes + lane])
        tile.accumulate(
            sums,
            depth,
            lambda column, k: self.a[(start + column) * depth + k],
            lambda k, vector, lane: self.b[((panel * depth + k) * self.vectors + vector) * lanes + lane],
            hold=self.hold,
            task=self.task,
        )
        if self.epilogue.is_long:
            self._finish_in_a_loop(sums, tile, panel, start, width)
            return
        for vector, column in itertools.product(range(tile.vectors), range(columns)):
            with T.vectorized(min(lanes, width - vector * lanes)) as lane:
                total = tile.total(sums, column, vector, lane)
                self._finish(total, start + column, first + vector, lane)

    def _finish_in_a_loop(self, sums: tirx.Var, tile: Tile, panel: Expr, start: Expr, width: int) -> None:
        """A loop over the columns; it reads a copy of the sums, which themselves stay in registers."""
        lanes = tile.lanes
        copy = T.alloc_buffer((tile.size,), tile.dtype, scope="local")
        for vector, column in itertools.product(range(tile.vectors), range(tile.columns)):
            with T.vectorized(lanes) as lane:
                total = tile.total(sums, column, vector, lane)
                T.buffer_store(copy, total, [tile.place(0, column, vector) + lane])
        with T.serial(tile.columns) as column:
            for vector in range(tile.vectors):
                with T.vectorized(min(lanes, width - vector * lanes)) as lane:
                    total = copy[(column * tile.vectors + vector) * lanes + lane]
                    self._finish(total, start + column, panel * self.vectors + vector, lane)

    def _finish(self, total: Expr, row: Expr, vector: Expr, lane: Expr) -> None:
        self.epilogue.store(total, self.indices(row, vector * self.layer.lanes + lane))
