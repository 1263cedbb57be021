"""Calls of routines in TensorIR."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.requantization import Sum, Tail
from graphopt.targets.schedules.templates.kernel import Buffers

Pointer = Expr
"""The address of an element."""


def call(routine: str, *operands: Expr | int, family: str = "helium") -> None:
    """A statement; pointers are made by `at`."""
    T.evaluate(T.call_extern("int32", f"{family}_{routine}", *operands))


def at(buffer: tirx.Var, index: Expr | int) -> Pointer:
    """The address of an element."""
    return T.address_of(buffer[index])


def workspace(elements: int, dtype: str = "int8") -> tirx.Var:
    """What routines read and write by address, of which TVM would keep only as much as it sees in use."""
    buffer = T.alloc_buffer((elements,), dtype)
    T.buffer_store(buffer, tirx.const(0, dtype), [elements - 1])
    return buffer


def add(
    added: Sum, buffers: Buffers, elements: int, start: Expr | int = 0, first: Pointer | None = None
) -> None:
    """A sum over `elements` from `start` on. The operand that is no parameter of the kernel begins at `first`, or lies
    where the sum will."""
    result = at(buffers[added.end.result], start)
    made = result if first is None else first
    a, b = (at(buffers[x], start) if x in buffers else made for x in added.operands)
    numbers = added.offset, int(added.end.multiplier[0])
    call("add", a, b, elements, *added.factors, *numbers, result, *added.end.cut)


class Finish:
    """Where rows of `elements` bytes go that a routine makes: into the result; or, if another image is added to them,
    into a workspace first, so that the result may lie where that image does."""

    def __init__(self, tail: Tail, buffers: Buffers, elements: int) -> None:
        self._added = tail.added
        self._buffers = buffers
        self._elements = elements
        self._made = buffers[tail.first.result] if tail.added is None else workspace(elements)

    def place(self, line: Expr, offset: Expr | int) -> Pointer:
        """Of the row that begins at `line` in the result."""
        return at(self._made, offset if self._added else line + offset)

    def row(self, line: Expr) -> None:
        """All of a row is made."""
        if self._added is not None:
            add(self._added, self._buffers, self._elements, line, at(self._made, 0))
