"""Products of two computed operands in bytes, of attention: MatMul of `graphopt.quant`, batch by batch.

    sum over k of (a[m, k] - za) (b[k, n] - zb)
        = sum over k of a[m, k] b[k, n] + (depth za zb - za * sum over k of b[k, n]) - zb * sum over k of a[m, k]

The kernel first packs `b` as constant weights are packed when a model is compiled, and adds up its columns and the rows
of `a` on the way; then it works by `integer_panels`. Weights may have any value here, -128 too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import product_of_bytes
from graphopt.targets.schedules.templates.dot import Pointer
from graphopt.targets.schedules.templates.integer_panels import (
    COPIED_FOR_A_PRODUCT,
    OTHER_SIGN,
    IntegerPanelKernel,
    Panels,
    Reading,
    in_vectors,
    readings,
    tile_decision,
)
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    repeated,
    spread,
    taken_apart,
)

BYTES = (DType.int8, DType.uint8)
ANY_WEIGHT = np.full(1, -128, np.int8)
WORD_BYTES = 4


@dataclass(frozen=True)
class IntegerBatches:
    """`batches` of `rows` x `depth` times `depth` x `width`."""

    body: Graph
    anchor: Node
    target: Target
    batches: int
    rows: int
    depth: int
    width: int
    readings: tuple[Reading, ...]
    name: str = "integer-batches"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> IntegerBatches | None:
        anchor = product_of_bytes(body, BYTES)
        if anchor is None:
            return None
        a, b = anchor.inputs[:2]
        assert a is not None and b is not None
        if a.producer is not None or b.producer is not None or anchor.input(2) is not None:
            return None
        if min(len(a.static_shape), len(b.static_shape)) < 2 or a.static_shape[:-2] != b.static_shape[:-2]:
            return None
        (*batches, rows, depth), width = a.static_shape, b.static_shape[-1]
        choices = tuple(
            reading for reading in readings(target, a.dtype.label, ANY_WEIGHT) if reading.dot.lanes <= width
        )
        if not choices or not (math.prod(batches) and rows and depth):
            return None
        return cls(body, anchor, target, math.prod(batches), rows, depth, width, choices)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "dot": range(len(self.readings)),
            "columns": range(1, min(self.rows, registers) + 1),
            "vectors": range(1, registers + 1),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return tile_decision(self.readings, self.rows, self.depth, self.width, self.target)

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, lambda buffers: _Kernel(self, decision, buffers).emit())


class _Kernel(IntegerPanelKernel):
    """Writes one kernel."""

    def __init__(self, layer: IntegerBatches, decision: Mapping[str, int], buffers: Buffers) -> None:
        reading = layer.readings[decision["dot"]]
        panels = Panels(reading.dot, layer.depth, layer.width, decision["vectors"], 8)
        sizes = layer.rows, decision["columns"], reading.shift
        super().__init__(layer.body, layer.anchor, panels, *sizes, buffers, layer.target, layer.batches)
        b = layer.anchor.inputs[1]
        assert b is not None
        self.source = buffers[b]
        self.other_sign = b.dtype is DType.uint8
        shift = OTHER_SIGN["uint8"][1] if self.other_sign else 0
        self.a_zero = layer.anchor.int("a_zero_point") + self.shift
        self.b_zero = layer.anchor.int("b_zero_point") + shift
        lanes, depth = self.dot.lanes, self.dot.depth
        self.order = self.dot.pack(np.arange(lanes * depth).reshape(lanes, depth))

    def emit(self) -> None:
        size = self.batches * self.packed.count * self.packed.elements
        self.b = T.alloc_buffer((size,), "int8", scope="global")
        self._pack()
        if self.b_zero:
            self._add_rows()
        super().emit()

    def finished(self, total: Expr, row: Expr) -> Expr:
        return total - self.row_sums[row] * self.b_zero if self.b_zero else total

    def _add_rows(self) -> None:
        """The sums of the rows of `a`, as it is multiplied."""
        depth, rows = self.packed.depth, self.batches * self.rows
        self.row_sums = T.alloc_buffer((rows,), "int32", scope="global")
        with spread(rows, rows * depth // COPIED_FOR_A_PRODUCT) as row:
            parts = T.alloc_buffer((16,), "int32", scope="local")
            with T.vectorized(16) as lane:
                T.buffer_store(parts, tirx.const(0, "int32"), [lane])

            def add(start: Expr | int, count: int) -> None:
                with T.vectorized(count) as lane:
                    value = self.moved(self.stored[row * depth + start + lane]).astype("int32")
                    T.buffer_store(parts, parts[lane] + value, [lane])

            in_vectors(depth, add)
            total = parts[0]
            for part in range(1, 16):
                total = total + parts[part]
            T.buffer_store(self.row_sums, total, [row])

    # --- packing b ---

    def _pack(self) -> None:
        """Whole panels, whole vectors of the last one, and what is left over: loops without a condition, for TVM loses
        the bounds of buffers that are written under one."""
        packed = self.packed
        whole, rest = divmod(packed.width, self.dot.lanes)
        panels, vectors = divmod(whole, packed.vectors)
        self._pack_vectors(0, panels, 0, packed.vectors, 0)
        self._pack_vectors(panels, 1, 0, vectors, 0)
        if rest:
            self._pack_vectors(panels, 1, vectors, 1, self.dot.lanes - rest)

    def _pack_vectors(self, panel: int, panels: int, vector: int, vectors: int, missing: int) -> None:
        """Some `vectors` of some `panels`, from those on, of each batch."""
        count = self.batches * panels * vectors
        if not count:
            return
        with spread(count, count * self.packed.depth * self.dot.lanes // COPIED_FOR_A_PRODUCT) as task:
            batch, number, within = taken_apart(task, self.batches, panels, vectors)
            self._pack_vector(batch, panel + number, vector + within, missing)

    def _pack_vector(self, batch: Expr, number: Expr, within: Expr, missing: int) -> None:
        """A vector within a panel; the last of a row is read `missing` columns to the left, so that nothing beyond the
        row is read."""
        packed, dot = self.packed, self.dot
        panel = (batch * packed.count + number) * packed.elements
        sums = Pointer(T.alloc_buffer((dot.lanes,), "int32", scope="local"))
        zero = packed.depth * self.a_zero * self.b_zero
        sums.store(tirx.Broadcast(tirx.const(zero, "int32"), dot.lanes))
        target = panel + packed.start_elements + within * dot.step_bytes
        column = (number * packed.vectors + within) * dot.lanes - missing
        source = batch * (packed.depth * packed.width) + column

        def take(step: Expr | int, count: int) -> None:
            rows = []
            for k in range(count):
                place = source + (step * dot.depth + k) * packed.width
                rows.append(T.bind(self._row(Pointer(self.source, place), missing)))
                if self.a_zero:
                    wide = rows[-1].astype(f"int32x{dot.lanes}")
                    sums.store(sums.load(dot.lanes) - wide * tirx.const(self.a_zero, f"int32x{dot.lanes}"))
            empty = tirx.Broadcast(tirx.const(0, "int8"), dot.lanes)
            rows += [empty] * (dot.depth - count)
            place = target + step * (packed.vectors * dot.step_bytes)
            Pointer(self.b, place).store(tirx.Shuffle(rows, self._places()))

        whole, rest = divmod(packed.depth, dot.depth)
        if whole:
            with repeated(whole) as step:
                take(step, dot.depth)
        if rest:
            take(whole, rest)
        starts = tirx.reinterpret(f"int8x{WORD_BYTES * dot.lanes}", sums.load(dot.lanes))
        Pointer(self.b, panel + within * (WORD_BYTES * dot.lanes)).store(starts)

    def _row(self, place: Pointer, missing: int) -> Expr:
        """The next columns of a row of `b`, in front of them those of its last vector that are `missing` behind."""
        lanes = self.dot.lanes
        row = place.load(lanes)
        if self.other_sign:
            row = tirx.reinterpret(f"int8x{lanes}", tirx.bitwise_xor(row, tirx.const(128, f"uint8x{lanes}")))
        if missing:
            row = tirx.Shuffle([row, row], list(range(missing, missing + lanes)))
        return row

    def _places(self) -> list[int]:
        """Where in the rows of a step, one after another, each packed number is."""
        lanes, depth = self.dot.lanes, self.dot.depth
        return [int(place % depth * lanes + place // depth) for place in self.order.reshape(-1)]
