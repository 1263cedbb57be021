"""Raw kernels: what becomes a workspace, and how many bytes it has."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.targets.codegen import LARGEST_STACK_BUFFER, compile_kernels
from graphopt.targets.device import load_target

LANES = 16


def through_a_temporary(rows: int) -> tirx.PrimFunc:
    """y = reversed rows of x, by way of a float32 temporary that is read and written in vectors."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        x = T.arg("x", T.buffer((rows, LANES), "float32"))
        y = T.arg("y", T.buffer((rows, LANES), "float32"))
        between = T.alloc_buffer((rows, LANES), "float32")
        with T.serial(rows) as row, T.vectorized(LANES) as lane:
            T.buffer_store(between, x[row, lane], [row, lane])
        with T.serial(rows) as row, T.vectorized(LANES) as lane:
            T.buffer_store(y, between[rows - 1 - row, lane], [row, lane])
    return builder.get()


def test_a_workspace_counts_every_lane() -> None:
    rows = LARGEST_STACK_BUFFER // (4 * LANES)
    functions = {"small": through_a_temporary(rows), "large": through_a_temporary(rows + 1)}
    workspaces = compile_kernels(functions, load_target("host")).workspaces
    assert workspaces == {"small": (), "large": ((rows + 1) * LANES * 4,)}
