"""Asking for the weights of the next tile: each line once, by tiles that take equal shares."""

from __future__ import annotations

import dataclasses

import pytest
import tvm_ffi
from tvm import ir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import load_target
from graphopt.targets.schedules.templates.dot import Pointer
from graphopt.targets.schedules.templates.prefetch import LINE, NextWeights

WIDE = load_target("x86-64-v4")


def asked(next: NextWeights, elements: int, visit: int, dtype: str) -> list[int]:
    """The elements whose lines are asked for."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        weights = T.arg("w", T.buffer((1,), dtype))
        next.fetch(Pointer(weights), elements, tirx.const(visit, "int32"))
    places: list[int] = []

    def visit_call(call: ir.Call) -> None:
        if getattr(call.op, "name", "") == "tirx.address_of":
            places.append(int(call.args[0].indices[0]))

    tvm_ffi.structural_walk(builder.get().body, (ir.Call, visit_call))
    return places


@pytest.mark.parametrize("visits", [1, 3, 7, 12, 56])
@pytest.mark.parametrize(("dtype", "size"), [("int8", 1), ("int16", 2)])
@pytest.mark.parametrize("bytes", [64, 768, 800, 2304])
def test_all_shares_are_the_next_weights(visits: int, dtype: str, size: int, bytes: int) -> None:
    next, elements = NextWeights(100_000, visits), bytes // size
    shares = [asked(next, elements, visit, dtype) for visit in range(visits)]
    lines = -(-bytes // LINE)
    assert {len(share) for share in shares} == {-(-lines // visits)}
    wanted = {next.elements + line * LINE // size for line in range(lines)}
    got = {place for share in shares for place in share}
    assert wanted <= got
    assert max(got) < next.elements + (lines + -(-lines // visits)) * LINE // size


def test_a_last_tile_has_no_next() -> None:
    assert NextWeights.of(1000, 1, 1, 7, WIDE) is None
    assert NextWeights.of(1000, 1, 2, 7, WIDE) == NextWeights(1000, 7)


def test_both_fit_the_cache() -> None:
    half = WIDE.l2_bytes // 2
    assert NextWeights.of(half, 1, 2, 7, WIDE) is not None
    assert NextWeights.of(half, 2, 2, 7, WIDE) is None


def test_narrow_vectors_do_without() -> None:
    assert NextWeights.of(1000, 1, 2, 7, dataclasses.replace(WIDE, vector_bits=128)) is None
