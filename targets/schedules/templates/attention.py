"""Scaled dot-product attention without the matrix of scores.

    Y = softmax(Q K^T s + mask) V

Queries go by blocks of a few rows. For each block the scores of a stretch of keys are computed tile by tile into a
small buffer, then turned into exponentials, then multiplied with the values. The keys of a head, times s, are
packed as the right factor of a product, [panel][width][vectors * lanes], and the values as [key][vectors * lanes].
When the keys do not fit into one stretch, sums and results so far shrink with every larger maximum. Heads are read
and written where they lie: a split or transposed tensor is followed by its strides.

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node, Value
from graphopt.targets.attention_group import is_plain
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.attention_block import Block, PackedHead, Shape
from graphopt.targets.schedules.templates.attention_operands import Heads, Mask, Packing
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated, spread, taken_apart
from graphopt.targets.schedules.templates.tile import Held, best_tile, fitting_vectors
from graphopt.targets.strided import View, moves_of, view_from, view_of

LARGEST_TASK = 32768
"""Bytes of packed keys, or values, that a task keeps for itself; larger ones are shared by all."""

SCORES_SHARE = 0.5
"""Part of the first-level cache for the scores of a block of queries."""

OPERAND_HEADS = ("q_num_heads", "kv_num_heads", "kv_num_heads")
"""Attributes that tell the heads of queries, keys and values."""


@dataclass(frozen=True)
class FusedAttention:
    """Attention with the moves around it. Operands and the result are (batch, heads, tokens, width)."""

    body: Graph
    anchor: Node
    target: Target
    queries: View
    keys: View
    values: View
    result: View
    name: str = "attention"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> FusedAttention | None:
        anchors = [node for node in body.nodes if node.is_op("Attention")]
        if len(anchors) != 1 or not is_plain(anchors[0]) or len(body.outputs) != 1:
            return None
        (anchor,) = anchors
        q, k, v = anchor.inputs[:3]
        assert q is not None and k is not None and v is not None
        chains = [moves_of(value) for value in (q, k, v)]
        behind = list(anchor.output.users)
        result = view_from(anchor.output, behind, _heads(anchor, anchor.output, "q_num_heads"))
        if result is None or result.source is not body.outputs[0]:
            return None
        if len({anchor, *behind, *(move for chain in chains for move in chain)}) != len(body):
            return None
        queries, keys, values = (
            view_of(value, chain, _heads(anchor, value, name))
            for value, chain, name in zip((q, k, v), chains, OPERAND_HEADS, strict=True)
        )
        mask = anchor.input(3)
        sources = (queries.source, keys.source, values.source, *([] if mask is None else [mask]))
        if any(source.producer is not None for source in sources):
            return None
        return cls(body, anchor, target, queries, keys, values, result)

    @property
    def lanes(self) -> int:
        return self.target.vector_bits // 32

    @property
    def vectors(self) -> int:
        """Vectors of keys."""
        return -(-self.keys.shape[2] // self.lanes)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "columns": range(1, min(self.queries.shape[2], registers) + 1),
            "vectors": range(1, min(self.vectors, 8) + 1),
            "hold": (0, 1) if self.target.multiplies_by_lane else (0,),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        width = self.queries.shape[3]
        hold = self.target.multiplies_by_lane and width >= self.lanes and self.queries.strides[3] == 1
        held = Held.along(self.lanes) if hold else None
        columns, vectors = best_tile(self.queries.shape[2], self.vectors, self.target, held=held)
        return {"columns": columns, "vectors": vectors, "hold": int(hold)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Nothing: keys and values are packed at run time."""
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, lambda buffers: _Emission(self, decision, buffers).emit())


def _heads(anchor: Node, value: Value, attribute: str) -> int | None:
    """How many heads lie side by side in the last axis; None where they have an axis of their own."""
    return anchor.int(attribute) if value.rank == 3 else None


class _Emission:
    """Writes one kernel: which task packs what, and which queries it takes."""

    def __init__(self, layer: FusedAttention, decision: Mapping[str, int], buffers: Buffers) -> None:
        self.layer = layer
        self.columns = decision["columns"]
        self.batch, self.heads, self.queries, width = layer.queries.shape
        self.groups, self.keys = layer.keys.shape[1:3]
        self.macs = self.keys * (width + layer.values.shape[3])
        self.pieces = -(-self.queries // self.columns)
        wide = decision["vectors"] * layer.lanes
        self.packing = Packing(
            Heads(buffers[layer.keys.source], layer.keys),
            Heads(buffers[layer.values.source], layer.values),
            layer.anchor.float("scale", 1 / math.sqrt(width)),
            layer.lanes,
            wide,
        )
        panels = self.packing.padded // wide
        room = int(layer.target.l1_bytes * SCORES_SHARE) // (4 * self.columns * wide)
        stretches = -(-panels // max(room, 1))
        mask, hold = layer.anchor.input(3), layer.target.multiplies_by_lane
        whole = self.packing.value_width // layer.lanes
        self.shape = Shape(
            queries=Heads(buffers[layer.queries.source], layer.queries),
            result=Heads(buffers[layer.result.source], layer.result),
            packing=self.packing,
            mask=None if mask is None else Mask(buffers[mask], mask),
            causal=bool(layer.anchor.int("is_causal")),
            vectors=decision["vectors"],
            stretch=-(-panels // stretches),
            value_vectors=fitting_vectors(whole, self.columns, layer.target, hold=hold),
            hold_queries=bool(decision["hold"]),
            hold_scores=hold,
        )

    def emit(self) -> None:
        largest = max(self.packing.key_elements, self.packing.value_elements) * 4
        if largest <= LARGEST_TASK and self.batch * self.groups >= self.layer.target.cores:
            self._by_group()
        else:
            self._by_block()

    def _by_group(self) -> None:
        """A task packs the keys and values of a head for itself, and takes all queries that read them."""
        share = self.heads // self.groups
        with spread(self.batch * self.groups, self.batch * self.heads * self.queries * self.macs) as task:
            image, group = taken_apart(task, self.batch, self.groups)
            packed = self._space(1)
            self._pack(packed, image, group)
            with repeated(share) as member, repeated(self.pieces) as piece:
                self._piece(packed, image, group * share + member, piece)

    def _by_block(self) -> None:
        """All keys and values are packed first; then a task is a block of queries."""
        count, share = self.batch * self.groups, self.heads // self.groups
        space = self._space(count)
        with spread(count, count * self.macs) as task:
            image, group = taken_apart(task, self.batch, self.groups)
            self._pack(self._part(space, task), image, group)
        tasks = self.batch * self.heads * self.pieces
        with spread(tasks, self.batch * self.heads * self.queries * self.macs) as task:
            image, head, piece = taken_apart(task, self.batch, self.heads, self.pieces)
            packed = self._part(space, image * self.groups + tirx.indexdiv(head, share))
            self._piece(packed, image, head, piece)

    def _space(self, count: int) -> PackedHead:
        keys = T.alloc_buffer((count * self.packing.key_elements,), "float32")
        values = T.alloc_buffer((count * self.packing.value_elements,), "float32")
        return PackedHead(keys, values, 0, 0)

    def _part(self, space: PackedHead, number: Expr) -> PackedHead:
        elements = self.packing.key_elements, self.packing.value_elements
        return PackedHead(space.keys, space.values, number * elements[0], number * elements[1])

    def _pack(self, packed: PackedHead, image: Expr, group: Expr) -> None:
        self.packing.pack_keys(packed.keys, packed.first_key, image, group)
        self.packing.pack_values(packed.values, packed.first_value, image, group)

    def _piece(self, packed: PackedHead, image: Expr, head: Expr, piece: Expr | int) -> None:
        """A block of queries; the last may have fewer."""
        rest = self.queries % self.columns
        start = tirx.convert(piece * self.columns)
        if rest and self.pieces > 1:
            with T.If(piece < self.pieces - 1):
                with T.Then():
                    Block(self.shape, packed, image, head, start, self.columns).emit()
                with T.Else():
                    Block(self.shape, packed, image, head, start, rest).emit()
        else:
            Block(self.shape, packed, image, head, start, rest or self.columns).emit()
