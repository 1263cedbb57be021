"""Reductions to a largest or smallest element that start from infinity.

TVM's own te.max starts from the lowest finite number, and a maximum over minus infinities must not be that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

import tvm_ffi
from tvm import te, tirx

from graphopt.targets.extrema import maximum, minimum
from graphopt.targets.lower.arithmetic import highest, lowest
from graphopt.targets.lower.tensors import Expr, dtype_of

Step = Callable[[Expr, Expr], Expr]
Start = Callable[[str], Expr]

LARGEST: tuple[Step, Start] = (lambda a, b: maximum(a, b), lowest)
SMALLEST: tuple[Step, Start] = (lambda a, b: minimum(a, b), highest)
GREATEST: tuple[Step, Start] = (lambda a, b: tirx.max(a, b), lowest)

largest = te.comm_reducer(*LARGEST, name="largest")
"""NaN if any element is."""

smallest = te.comm_reducer(*SMALLEST, name="smallest")
"""NaN if any element is."""

greatest = te.comm_reducer(*GREATEST, name="greatest")
"""One instruction an element. Next to NaN any other element may come out, as ONNX Runtime's pools have it."""


@cache
def register_reducers() -> None:
    """Let TVM's schedules take these reductions apart (`rfactor`), as they do its own."""
    register = tvm_ffi.get_global_func("s_tir.schedule.RegisterReducer")
    for step, start in (LARGEST, SMALLEST, GREATEST):
        register(1, _lasting(_combiner(step)), _lasting(_identity(start)))


def _combiner(step: Step) -> Callable[[Sequence[Expr], Sequence[Expr]], list[Expr]]:
    return lambda left, right: [step(left[0], right[0])]


def _identity(start: Start) -> Callable[[Sequence[Expr]], list[Expr]]:
    return lambda values: [start(dtype_of(values[0]))]


def _lasting(function: Callable[..., list[Expr]]) -> tvm_ffi.Function:
    """TVM's registry outlives the interpreter, and would free the function when there is none: it is never freed."""
    lasting = tvm_ffi.convert(function)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(lasting))
    return lasting
