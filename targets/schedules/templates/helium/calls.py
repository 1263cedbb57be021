"""Calls of routines in TensorIR."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.helium.requantization import Sum
from graphopt.targets.schedules.templates.kernel import Buffers


def call(routine: str, *operands: Expr | int) -> None:
    """A statement; pointers are made by `at`."""
    T.evaluate(T.call_extern("int32", f"helium_{routine}", *operands))


def at(buffer: tirx.Var, index: Expr | int) -> Expr:
    """The address of an element."""
    return T.address_of(buffer[index])


def workspace(elements: int) -> tirx.Var:
    """Bytes that routines read and write by address, of which TVM would keep only as many as it sees in use."""
    buffer = T.alloc_buffer((elements,), "int8")
    T.buffer_store(buffer, tirx.const(0, "int8"), [elements - 1])
    return buffer


def add(added: Sum, buffers: Buffers, elements: int, start: Expr | int = 0) -> None:
    """A sum over `elements` from `start` on; what is no parameter of the kernel lies where the sum will."""
    result = buffers[added.end.result]
    a, b = (buffers.get(operand, result) for operand in added.operands)
    call(
        "add",
        at(a, start),
        at(b, start),
        elements,
        *added.factors,
        added.offset,
        int(added.end.multiplier[0]),
        at(result, start),
        *added.end.cut,
    )
