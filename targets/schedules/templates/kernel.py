"""Putting a kernel together: parameters, loops, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Value
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.spatial import PARALLEL_FROM

Buffers = dict[Value, tirx.Var]


def build_kernel(
    body: Graph,
    emit: Callable[[Buffers], None],
    sizes: dict[int, int] | None = None,
    dtypes: dict[int, str] | None = None,
) -> tirx.PrimFunc:
    """A function on flat buffers: the body's inputs, then its outputs; `emit` writes its statements.

    `sizes` tells the elements of inputs, by number, that are packed to another size than their type has; `dtypes` the
    types of those packed to others.
    """
    packed, types = sizes or {}, dtypes or {}
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        buffers: Buffers = {}
        for number, value in enumerate(body.inputs):
            elements = packed.get(number, value.type.size if value.type else 0)
            dtype = types.get(number, value.dtype.label)
            buffers[value] = T.arg(f"p{number}", T.buffer((elements,), dtype))
        for number, value in enumerate(body.outputs):
            assert value.type is not None
            buffers[value] = T.arg(f"y{number}", T.buffer((value.type.size,), value.dtype.label))
        emit(buffers)
    return builder.get()


def element_type(buffer: tirx.Var) -> str:
    """What the elements of a buffer are."""
    return str(buffer.ty.dtype)


@contextmanager
def spread(count: int, work: int) -> Iterator[Expr]:
    """A loop over `count` independent tasks; on threads where `work` operations in all pay for it."""
    loop = T.parallel(count) if work >= PARALLEL_FROM and count > 1 else T.serial(count)
    with loop as index:
        yield index


@contextmanager
def shared_out(count: int, strands: int, work: int) -> Iterator[tuple[Expr, Expr]]:
    """A loop over `count` tasks, neighbours in `strands` strands that run side by side: the strand and the task.

    The tasks of a strand follow one another and may share a workspace.
    """
    share = -(-count // strands)
    with spread(strands, work) as strand, T.serial(share) as step:
        task = strand * share + step
        with only_if(task < count if share * strands > count else None):
            yield strand, task


@contextmanager
def repeated(count: int) -> Iterator[Expr | int]:
    """A serial loop; a single step is no loop and its index a number."""
    if count == 1:
        yield 0
        return
    with T.serial(count) as index:
        yield index


def each(count: int, *, looped: bool) -> Iterator[AbstractContextManager[Expr | int]]:
    """The steps 0, 1, ... one by one as contexts that give the step; or a single one that is a loop over them."""
    if looped and count > 1:
        yield T.serial(count)
    else:
        yield from (nullcontext(step) for step in range(count))


def copied(sums: tirx.Var, vectors: int, lanes: int) -> tirx.Var:
    """A copy that a loop may read by number; the sums themselves then stay in registers."""
    copy = T.alloc_buffer((vectors * lanes,), element_type(sums), scope="local")
    for vector in range(vectors):
        with T.vectorized(lanes) as lane:
            T.buffer_store(copy, sums[vector * lanes + lane], [vector * lanes + lane])
    return copy


@contextmanager
def only_if(condition: Expr | None) -> Iterator[None]:
    """Statements under a condition; None: always."""
    if condition is None:
        yield
        return
    with T.If(condition), T.Then():
        yield


def either(condition: Expr | None, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """Statements for both outcomes of a condition; None: it always holds."""
    if condition is None:
        then()
        return
    with T.If(condition):
        with T.Then():
            then()
        with T.Else():
            otherwise()


def taken_apart(index: Expr, *extents: int) -> list[Expr]:
    """Row-major `index` as one index per extent."""
    parts: list[Expr] = []
    for extent in reversed(extents[1:]):
        parts.append(tirx.indexmod(index, extent))
        index = tirx.indexdiv(index, extent)
    return [index, *reversed(parts)]


def settled(number: Expr) -> Expr:
    """`number`, computed here once, by name.

    TVM would put an expression of integers in the place of its name, and simplify it with every index that it is part
    of. What is read from memory it leaves alone; the compiler keeps it in a register.
    """
    cell = T.alloc_buffer((1,), "int32", scope="local")
    T.buffer_store(cell, number, [0])
    return T.bind(cell[0])
