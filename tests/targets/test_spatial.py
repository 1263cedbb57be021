"""Stages without a reduction: no element is moved alone where its neighbours could come along."""

from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi
from tvm import ir, tirx

from graphopt.ir import DType, Graph, Origin, TensorType
from graphopt.ir.fused import body_of, fuse_nodes
from graphopt.rewrite import Builder
from graphopt.targets import codegen
from graphopt.targets.device import load_target
from graphopt.targets.lower import lower_body
from graphopt.targets.schedules import schedule

CASES = {
    "whole": ("Relu", [(64, 48)], {}),
    "prime length": ("Relu", [(37,)], {}),
    "broadcast over a prime row": ("Add", [(30, 37), (30, 1)], {}),
    "shorter than a vector": ("Relu", [(5,)], {}),
    "transposition": ("Transpose", [(96, 64)], {"perm": (1, 0)}),
    "padded rows": ("Pad", [(8, 20, 20)], {"pads": (0, 1, 1, 0, 1, 1)}),
    "rows side by side": ("Concat", [(14, 14, 3), (14, 14, 21)], {"axis": 2}),
    "rows one below the other": ("Concat", [(3, 14, 14), (5, 14, 14), (6, 14, 14)], {"axis": 0}),
}


def lowered(name: str) -> tirx.PrimFunc:
    """The kernel of a case, with a Relu behind it, as the code generator gets it."""
    op_type, shapes, attributes = CASES[name]
    graph = Graph("case", opset=24)
    build = Builder(graph, None, Origin())
    operands = [graph.add_input(f"x{n}", TensorType(DType.float32, s)) for n, s in enumerate(shapes)]
    attributes = dict(attributes)
    if "pads" in attributes:
        operands.append(build.const(np.asarray(attributes.pop("pads"))))
    graph.add_output(build.op("Relu", build.op(op_type, *operands, **attributes)))
    body = body_of(fuse_nodes(graph, list(graph.nodes)))
    target = load_target("x86-64-v3")
    module, _ = codegen.lower({"case": schedule(lower_body(body), body, target)}, target.tvm())
    return module["case"]


def scaled_bytes(dtype: DType, machine: str) -> tirx.PrimFunc:
    """An image of bytes in blocks, times a number for each channel."""
    graph = Graph("case", opset=24)
    build = Builder(graph, None, Origin())
    image = graph.add_input("x", TensorType(DType.uint8, (1, 3, 5, 5, 16)))
    factor = graph.add_input("f", TensorType(dtype, (1, 3, 1, 1, 16)))
    one = build.const(np.ones((), np.float32), name="one")
    floats = build.op("Mul", *(build.op("Cast", v, to=DType.float32.onnx_code) for v in (image, factor)))
    graph.add_output(build.op("QuantizeLinear", floats, one, build.const(np.uint8(3), name="zero")))
    body = body_of(fuse_nodes(graph, list(graph.nodes)))
    target = load_target(machine)
    module, _ = codegen.lower({"case": schedule(lower_body(body), body, target)}, target.tvm())
    return module["case"]


def stores(statement: tirx.Stmt) -> list[tirx.BufferStore]:
    found: list[tirx.BufferStore] = []
    tvm_ffi.structural_walk(statement, (tirx.BufferStore, lambda store: found.append(store)))
    return found


def is_vector(store: tirx.BufferStore) -> bool:
    return isinstance(store.indices[0], tirx.Ramp)


@pytest.mark.parametrize("name", CASES)
def test_innermost_loops_store_vectors(name: str) -> None:
    function = lowered(name)
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, lambda loop: loops.append(loop)))
    assert any(is_vector(store) for store in stores(function.body))
    for loop in loops:
        assert any(is_vector(store) for store in stores(loop.body)), function.script()


def test_a_padded_row_is_cut_where_the_padding_ends() -> None:
    """22 elements in vectors of 8: one zero; 7, 8 and 5 of the input; one zero."""
    pieces = stores(lowered("padded rows").body)
    assert [s.indices[0].lanes if is_vector(s) else 1 for s in pieces] == [1, 7, 8, 5, 1]


def test_inputs_side_by_side_are_copied_piece_by_piece() -> None:
    assert "if_then_else" not in lowered("rows side by side").script()


@pytest.mark.parametrize("machine", ["x86-64-v4", "x86-64-v3", "rpi4"])
@pytest.mark.parametrize("dtype", [DType.float32, DType.uint8])
def test_bytes_that_are_computed_with_in_floats_are_vectors_of_a_block(dtype: DType, machine: str) -> None:
    """In vectors of 64 bytes the factors would be picked one by one; in vectors of 4 floats, bytes four at a time."""
    body = scaled_bytes(dtype, machine).body
    loads: list[ir.TensorLoad] = []
    tvm_ffi.structural_walk(body, (ir.TensorLoad, lambda load: loads.append(load)))
    assert loads and all(isinstance(load.indices[0], tirx.Ramp) for load in loads), body.script()
    assert {store.indices[0].lanes for store in stores(body)} == {16}


def test_a_transposition_uses_up_the_lines_it_loads() -> None:
    """Around each vector 16 rows of the output, which lie side by side in the input."""
    (store,) = stores(lowered("transposition").body)
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(lowered("transposition").body, (tirx.For, lambda loop: loops.append(loop)))
    assert store.indices[0].lanes == 8
    assert min(int(loop.extent) for loop in loops) == 16
