"""Writing a kernel statement by statement, for what tensor expressions cannot say.

    def build(write: Writer) -> None:
        x, y = write.operand(0), write.result(0)
        with write.each(rows, work=rows * columns) as row:
            write.lanes(columns, lambda j: y.store(x[row, j], row, j))

Such a kernel is scheduled as it is written: `each` spreads a loop over threads where the work pays for it,
`lanes` walks contiguous elements in vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Node, Value
from graphopt.targets.lower.tensors import Expr, storage
from graphopt.targets.schedules.spatial import PARALLEL_FROM

VECTOR_BITS = 512
"""One step of `lanes`; the code generator splits it into the machine's vectors."""


@dataclass(frozen=True)
class Memory:
    """A tensor under some shape, row-major."""

    buffer: tirx.Var
    dtype: str

    def __getitem__(self, indices: Expr | int | tuple[Expr | int, ...]) -> Expr:
        return self.buffer[indices]

    def store(self, value: Expr, *indices: Expr | int) -> None:
        T.buffer_store(self.buffer, value, list(indices))


@dataclass(frozen=True)
class Literal:
    """A constant with one element, read at any index."""

    value: Expr
    dtype: str

    def __getitem__(self, indices: Expr | int | tuple[Expr | int, ...]) -> Expr:
        return self.value


class Writer:
    """Statements of one kernel. Parameters are the node's inputs that are data, each once, then those of its
    outputs that leave its group.

    `shapes` gives operands and results the shape to be indexed by, in that order; None: the tensor's own.
    """

    def __init__(self, node: Node, shapes: Sequence[Sequence[int] | None]) -> None:
        self._memory: dict[Value, Memory] = {}
        values = [*node.inputs, *node.outputs]
        for value, shape in zip(values, [*shapes, *[None] * (len(values) - len(shapes))], strict=True):
            if value is None or value.constant is not None or value in self._memory:
                continue
            if value.producer is not node or value.is_graph_output:
                self._memory[value] = _parameter(value, shape, len(self._memory))
        self._node = node

    def operand(self, index: int) -> Memory | Literal:
        """Input `index`, which must be there."""
        value = self._node.inputs[index]
        assert value is not None
        if value.constant is None:
            return self._memory[value]
        kind = storage(value.dtype)
        return Literal(tirx.const(value.scalar(), kind), kind)

    def result(self, index: int) -> Memory:
        return self._memory[self._node.outputs[index]]

    def optional_operand(self, index: int) -> Memory | Literal | None:
        """Input `index`; None when it is left out."""
        return None if self._node.input(index) is None else self.operand(index)

    def optional_result(self, index: int) -> Memory | None:
        """Output `index`; None when nobody reads it."""
        outputs = self._node.outputs
        return self._memory.get(outputs[index]) if index < len(outputs) else None

    def result_or_scratch(self, index: int, shape: Sequence[int]) -> Memory:
        """Output `index`, indexed by `shape`; a temporary tensor where nobody reads it, but the kernel does."""
        return self.optional_result(index) or self.scratch(shape, storage(self._node.outputs[index].dtype))

    def scratch(self, shape: Sequence[int], dtype: str) -> Memory:
        """A temporary tensor. Where it is made decides who shares it: inside a loop, one iteration."""
        return Memory(T.alloc_buffer(tuple(shape), dtype), dtype)

    def each(self, extent: int, *, work: int) -> AbstractContextManager[Expr]:
        """A loop whose iterations do not depend on each other, `work` elementary operations in all."""
        return T.parallel(extent) if work >= PARALLEL_FROM and extent > 1 else T.serial(extent)

    def serial(self, extent: int) -> AbstractContextManager[Expr]:
        return T.serial(extent)

    def lanes(
        self, extent: int, element: Callable[[Expr], None], dtype: str, *, work: int | None = None
    ) -> None:
        """`element(i)` for `extent` neighbouring elements of `dtype`, in vectors.

        With `work` the vectors are spread over threads where that pays.
        """
        width = max(VECTOR_BITS // tvm.DataType(dtype).bits, 1)
        whole = extent // width
        if whole:
            with self.each(whole, work=work or 0) as step, T.vectorized(width) as lane:
                element(step * width + lane)
        rest = extent - whole * width
        if rest:
            with T.vectorized(rest) as lane:
                element(whole * width + lane)


def write_kernel(
    node: Node, build: Callable[[Writer], None], shapes: Sequence[Sequence[int] | None] = ()
) -> tirx.PrimFunc:
    """The kernel of `node` whose statements `build` writes."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        build(Writer(node, shapes))
    return builder.get()


def folded(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """`shape` around `axis`: elements before it, along it, behind it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _parameter(value: Value, shape: Sequence[int] | None, number: int) -> Memory:
    kind = storage(value.dtype)
    dims = value.static_shape if shape is None else tuple(shape)
    return Memory(T.arg(f"p{number}", T.buffer(dims or (1,), kind)), kind)
