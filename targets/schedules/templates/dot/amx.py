"""x86 with AMX: 16 columns x 64 channels times 64 channels x 16 outputs, in eight registers of a kilobyte (tdpbusd).

    sums    0 1    factors of a step: inputs 4 5 (16 columns each), weights 6 7 (16 outputs each)
            2 3

A thread describes its registers to the processor once, in front of all its tiles; that takes longer than a small tile,
so the tasks of a kernel go to the threads in strands. Sixteen columns are always multiplied: what lies behind the
inputs of the last one is read as well, and never stored as a result. Sums begin as loads with a stride of zero, which
repeat the bias in every row. Linux lets a process use the registers when it is asked (`c_runtime/amx.c`).

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.errors import IRError
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.spatial import PARALLEL_FROM
from graphopt.targets.schedules.templates.dot.base import OVERHEAD, Dot, Inputs, Sums, interleaved, kept_whole
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.kernel import only_if, spread

ROWS = 16
ROW_BYTES = 64
QUAD = 4
LANES = 16

REGISTERS = 8
SQUARES = 4
"""Registers for sums; the first ones. Two hold inputs, and two weights."""

INPUTS = SQUARES
WEIGHTS = SQUARES + 2

FUNCTIONS = {"uint8": "llvm.x86.tdpbusd", "int8": "llvm.x86.tdpbssd"}
"""By the type of the inputs."""

CYCLES = 16
"""Of a product of two registers."""

DESCRIPTION_WORDS = 16
PALETTE = 1
WIDTHS, HEIGHTS = range(4, 8), range(12, 14)
"""Words that tell the bytes of a row of each register, and its rows."""


@dataclass(frozen=True)
class AmxDot(Dot):
    """Weights int8, inputs int8 or uint8. `emulated` computes the same on any machine, slowly."""

    emulated: bool = False
    name: ClassVar[str] = "amx"
    rows_read: ClassVar[int] = ROWS
    results_in_memory: ClassVar[bool] = True

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, QUAD)

    @contextmanager
    def tasks(self, count: int, work: int, target: Target) -> Iterator[Expr]:
        strands = min(target.cores, count) if work >= PARALLEL_FROM else 1
        share = -(-count // strands)
        with spread(strands, work) as strand:
            self._enter()
            with T.serial(share) as step:
                task = strand * share + step
                with only_if(task < count if share * strands > count else None):
                    yield task
            self._leave()

    def _enter(self) -> None:
        """Describe the registers: all of them have 16 rows of 64 bytes."""
        if self.emulated:
            return
        description = T.alloc_buffer((DESCRIPTION_WORDS,), "int32", scope="local")
        words = [0] * DESCRIPTION_WORDS
        words[0] = PALETTE
        for word in WIDTHS:
            words[word] = ROW_BYTES << 16 | ROW_BYTES
        for word in HEIGHTS:
            words[word] = ROWS << 24 | ROWS << 16 | ROWS << 8 | ROWS
        for place, word in enumerate(words):
            T.buffer_store(description, tirx.const(word, "int32"), [place])
        _call("llvm.x86.ldtilecfg", tirx.address_of(description[0]))

    def _leave(self) -> None:
        if not self.emulated:
            _call("llvm.x86.tilerelease")

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        heights = -(-columns // ROWS)
        if heights * vectors > SQUARES or min(heights, vectors) > WEIGHTS - INPUTS:
            raise IRError(f"AMX has no registers for {columns} columns of {vectors} vectors")
        size = heights * ROWS * vectors * LANES
        sums = Sums(T.alloc_buffer((size,), "int32", scope="local"), columns, vectors, bias)
        for height in range(heights):
            for vector in range(vectors):
                square = tirx.const(height * vectors + vector, "int8")
                if self.emulated:
                    with T.serial(ROWS) as row:
                        start = tirx.Broadcast(tirx.const(0, "int32"), LANES)
                        if bias is not None:
                            start = (bias + vector * LANES).load(LANES)
                        self.sum_at(sums, height * ROWS + row, vector).store(start)
                elif bias is None:
                    _call("llvm.x86.tilezero", square)
                else:
                    _load(square, bias + vector * LANES, 0)
        return sums

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        first = inputs[0]
        assert first is not None
        second = inputs[1] if len(inputs) > 1 else first
        assert second is not None
        stride = tirx.const(0, "int32") + second.offset - first.offset
        if self.emulated:
            self._written_out(sums, first, stride, weights)
            return
        heights = -(-sums.columns // ROWS)
        by_column = heights <= sums.vectors
        held, streamed = (heights, sums.vectors) if by_column else (sums.vectors, heights)

        def load_inputs(height: int, register: int) -> None:
            place = first + height * ROWS * stride
            _load(tirx.const(INPUTS + register % 2, "int8"), place, stride)

        def load_weights(vector: int, register: int) -> None:
            place = weights + vector * self.step_bytes
            _load(tirx.const(WEIGHTS + register % 2, "int8"), place, ROW_BYTES)

        hold, stream = (load_inputs, load_weights) if by_column else (load_weights, load_inputs)
        for number in range(held):
            hold(number, number)
        for number in range(streamed):
            stream(number, number)
            for other in range(held):
                height, vector = (other, number) if by_column else (number, other)
                registers = height * sums.vectors + vector, INPUTS + height % 2, WEIGHTS + vector % 2
                _call(FUNCTIONS[first.dtype], *(tirx.const(register, "int8") for register in registers))

    def results(self, sums: Sums) -> tirx.Var:
        if not self.emulated:
            heights = -(-sums.columns // ROWS)
            kept_whole(sums.buffer, heights * ROWS * sums.vectors * LANES)
            for height in range(heights):
                for vector in range(sums.vectors):
                    place = self.sum_at(sums, height * ROWS, vector)
                    register = tirx.const(height * sums.vectors + vector, "int8")
                    _call("llvm.x86.tilestored64", register, *_at(place, sums.vectors * LANES * 4))
        return sums.buffer

    def _written_out(self, sums: Sums, first: Pointer, stride: Expr, weights: Pointer) -> None:
        for vector in range(sums.vectors):
            with T.serial(-(-sums.columns // ROWS) * ROWS) as column, T.serial(self.depth // QUAD) as quad:
                whole = (weights + (vector * self.step_bytes + quad * ROW_BYTES)).load(ROW_BYTES)
                place = self.sum_at(sums, column, vector)
                total = place.load(LANES)
                for byte in range(QUAD):
                    x = (first + (column * stride + quad * QUAD + byte)).element().astype("int32")
                    picked = tirx.Shuffle([whole], list(range(byte, ROW_BYTES, QUAD)))
                    total = total + tirx.Broadcast(x, LANES) * picked.astype(f"int32x{LANES}")
                place.store(total)

    def registers(self, columns: int, vectors: int) -> int:
        """None of those that vectors are in; but too many where the sums have not enough."""
        heights = -(-columns // ROWS)
        fits = heights * vectors <= SQUARES and min(heights, vectors) <= 2
        return 0 if fits else 1 << 10

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        heights = -(-columns // ROWS)
        loads = ROWS * (heights + vectors)
        return max(CYCLES * heights * vectors, loads / target.loads_per_cycle) + OVERHEAD * loads


def _load(register: Expr, place: Pointer, stride: Expr | int) -> None:
    """Sixteen rows of 64 bytes; the stride counts bytes."""
    _call("llvm.x86.tileloadd64", register, *_at(place, stride))


def _at(place: Pointer, stride: Expr | int) -> tuple[Expr, Expr]:
    address = tirx.address_of(place.buffer[place.offset])
    return address, stride.astype("int64") if isinstance(stride, tirx.Expr) else tirx.const(stride, "int64")


def _call(name: str, *operands: Expr) -> None:
    T.evaluate(tirx.call_llvm_intrin("void", name, *operands))
