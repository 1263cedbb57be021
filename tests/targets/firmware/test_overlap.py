"""Inputs and outputs in the same memory: as near as is allowed nothing changes, and what is refused would go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tvm import tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import tirx as B

from graphopt.targets.plan_memory import Overlap
from tests.targets.firmware.c_kernels import kernel, run

N = 24


def scaled(x: tirx.Var, y: tirx.Var) -> None:
    with B.serial(N // 4) as i, B.vectorized(4) as lane:
        B.buffer_store(y, x[i * 4 + lane] * 3, [i * 4 + lane])


def backwards(x: tirx.Var, y: tirx.Var) -> None:
    with B.serial(N) as i:
        B.buffer_store(y, x[N - 1 - i] * 3, [N - 1 - i])


def columns_first(x: tirx.Var, y: tirx.Var) -> None:
    with B.serial(4) as j, B.serial(N // 4) as i:
        B.buffer_store(y, x[i * 4 + j] + j, [i * 4 + j])


def reversed_lanes(x: tirx.Var, y: tirx.Var) -> None:
    with B.serial(N // 4) as i, B.vectorized(4) as lane:
        B.buffer_store(y, x[i * 4 + 3 - lane], [i * 4 + lane])


def last_tile_twice(x: tirx.Var, y: tirx.Var) -> None:
    """Tiles of 5 elements, of which the last begins where five are left: one element is computed twice."""
    with B.serial(5) as i, B.serial(5) as j:
        B.buffer_store(y, x[T.min(i * 5, N - 5) + j] * 3, [T.min(i * 5, N - 5) + j])


def smoothed(x: tirx.Var, y: tirx.Var) -> None:
    """Rows of 6: each output reads a row before and a row behind, where there is one."""
    with B.serial(N) as i:
        total = B.alloc_buffer((1,), "int32", scope="local")
        B.buffer_store(total, 0, [0])
        with B.serial(3) as k, B.If(T.And(i + k * 6 >= 6, i + k * 6 < N + 6)), B.Then():
            B.buffer_store(total, total[0] + x[i + k * 6 - 6], [0])
        B.buffer_store(y, total[0], [i])


def halves(x: tirx.Var, y: tirx.Var) -> None:
    with B.serial(N // 2) as i:
        B.buffer_store(y, x[i * 2] + x[i * 2 + 1], [i])


def doubled(x: tirx.Var, y: tirx.Var) -> None:
    """Half as many inputs as outputs."""
    with B.serial(N // 2) as i, B.serial(2) as j:
        B.buffer_store(y, x[i] + j, [i * 2 + j])


def summed_first(x: tirx.Var, y: tirx.Var) -> None:
    total = B.alloc_buffer((1,), "int32", scope="local")
    B.buffer_store(total, 0, [0])
    with B.serial(N) as i:
        B.buffer_store(total, total[0] + x[i], [0])
    with B.serial(N) as i:
        B.buffer_store(y, total[0] + i, [i])


def spread(x: tirx.Var, y: tirx.Var) -> None:
    """The first element is read for every output."""
    with B.serial(N) as i:
        B.buffer_store(y, x[0] + i, [i])


def planes(x: tirx.Var, y: tirx.Var) -> None:
    """Of pixels of 4 channels each channel in turn is copied, then every second pixel is written."""
    plane = B.alloc_buffer((N // 4,), "int32", scope="local")
    with B.serial(4) as c:
        with B.serial(N // 4) as i:
            B.buffer_store(plane, x[i * 4 + c], [i])
        with B.serial(N // 8) as i:
            B.buffer_store(y, plane[i * 2] + c, [i * 4 + c])


def indexed(x: tirx.Var, y: tirx.Var) -> None:
    """The place that is read depends on data."""
    with B.serial(N) as i:
        B.buffer_store(y, x[x[i] % N], [i])


WORD = 4
Step = tuple[list[int], int]
KERNELS: dict[str, tuple[Callable[..., None], int, int, Callable[[], list[Step]]]] = {
    "scaled": (scaled, N, N, lambda: [([i], i) for i in range(N)]),
    "backwards": (backwards, N, N, lambda: [([N - 1 - i], N - 1 - i) for i in range(N)]),
    "columns first": (
        columns_first,
        N,
        N,
        lambda: [([i * 4 + j], i * 4 + j) for j in range(4) for i in range(N // 4)],
    ),
    "reversed lanes": (reversed_lanes, N, N, lambda: [([i // 4 * 4 + 3 - i % 4], i) for i in range(N)]),
    "last tile twice": (
        last_tile_twice,
        N,
        N,
        lambda: [([min(i * 5, N - 5) + j], min(i * 5, N - 5) + j) for i in range(5) for j in range(5)],
    ),
    "smoothed": (
        smoothed,
        N,
        N,
        lambda: [([k for k in (i - 6, i, i + 6) if 0 <= k < N], i) for i in range(N)],
    ),
    "halves": (halves, N, N // 2, lambda: [([i * 2, i * 2 + 1], i) for i in range(N // 2)]),
    "doubled": (doubled, N // 2, N, lambda: [([i // 2], i) for i in range(N)]),
    "summed first": (summed_first, N, N, lambda: [(list(range(N)), 0), *(([], i) for i in range(1, N))]),
    "planes": (
        planes,
        N,
        N // 2,
        lambda: [
            ([i * 4 + c for i in range(N // 4)] if place == 0 else [], place * 4 + c)
            for c in range(4)
            for place in range(N // 8)
        ],
    ),
    "spread": (spread, N, N, lambda: [([0], i) for i in range(N)]),
}
"""A kernel, the elements of its input and of its output, and what it reads and then writes, step by step."""


def is_right(steps: list[Step], distance: int) -> bool:
    """No element of the input, which begins so many elements behind the output, is read after it was written over."""
    written: set[int] = set()
    for reads, place in steps:
        if any(read + distance in written for read in reads):
            return False
        written.add(place)
    return True


@pytest.mark.parametrize("name", KERNELS)
def test_what_may_be_shared_is_found(name: str) -> None:
    build, read, written, steps = KERNELS[name]
    found = kernel(build, (read, "int32"), (written, "int32")).overlaps["f"][0, 1]
    right = [is_right(steps(), distance) for distance in range(-read, written + 1)]
    wrong = [distance for distance in range(-read, written + 1) if not right[distance + read]]
    assert found.least == (max(wrong) + 1 if wrong else -read) * WORD
    assert (found.in_place or found.least <= 0) == (right[read] or found.least <= 0)


@pytest.mark.parametrize("name", ["columns first", "reversed lanes", "smoothed"])
def test_compiled_code_is_right_as_near_as_that_and_no_nearer(name: str, tmp_path: Path) -> None:
    build, read, written, _ = KERNELS[name]
    printed = kernel(build, (read, "int32"), (written, "int32"))
    found = printed.overlaps["f"][0, 1]
    for distance in {found.least // WORD, read, *([0] if found.in_place else [])}:
        apart, shared = outputs(printed, tmp_path, read, written, distance)
        np.testing.assert_array_equal(shared, apart)
    apart, shared = outputs(printed, tmp_path, read, written, found.least // WORD - 1)
    assert (apart != shared).any()


def test_what_depends_on_data_is_read_last() -> None:
    found = kernel(indexed, (N, "int32"), (N, "int32")).overlaps["f"][0, 1]
    assert found == Overlap((N - 1) * WORD)


def outputs(printed, folder: Path, read: int, written: int, distance: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """In memory of their own, and with the input so many elements behind the output's start."""
    given = np.arange(5, 5 + 7 * read, 7, dtype=np.int32)
    apart = np.zeros(written, np.int32)
    run(printed, folder, given.copy(), apart)
    memory = np.zeros(4 * N, np.int32)
    y = memory[N : N + written]
    x = memory[N + distance : N + distance + read]
    x[:] = given
    run(printed, folder, x, y)
    return apart, y.copy()


def test_each_operand_counts() -> None:
    """A convolution's residual is read in place, its image is not."""

    def build(image: tirx.Var, residual: tirx.Var, y: tirx.Var) -> None:
        with B.serial(N) as i:
            B.buffer_store(y, image[N - 1 - i] + residual[i], [i])

    shared = kernel(build, (N, "int32"), (N, "int32"), (N, "int32")).overlaps["f"]
    assert shared[1, 2] == Overlap(0, True)
    assert shared[0, 2].least > 0 and not shared[0, 2].in_place


def test_other_types_share_nothing_but_bytes_do() -> None:
    def build(x: tirx.Var, y: tirx.Var) -> None:
        with B.serial(N) as i:
            B.buffer_store(y, T.Cast(y.ty.dtype, x[i]), [i])

    assert kernel(build, (N, "float32"), (N, "int32")).overlaps["f"] == {}
    assert kernel(build, (N, "uint8"), (N, "int8")).overlaps["f"] == {(0, 1): Overlap(0, True)}
    narrowed = kernel(build, (N, "int32"), (N, "int8")).overlaps["f"][0, 1]
    assert narrowed.least <= 0 and not narrowed.in_place


def test_nothing_is_restrict(tmp_path: Path) -> None:
    printed = kernel(scaled, (N, "int32"), (N, "int32"))
    assert "restrict" not in printed.text("f")
