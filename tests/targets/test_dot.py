"""Dot products of bytes: every instruction adds up what numpy does, with the largest numbers, on its own machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target, load_target
from graphopt.targets.schedules.templates.dot import (
    PACKINGS,
    Dot,
    Packing,
    Pointer,
    choose_dot,
    in_few_bits,
    stays_packed,
)
from graphopt.targets.schedules.templates.dot.amx import AmxDot
from graphopt.targets.schedules.templates.dot.pairs import PairDot
from graphopt.targets.schedules.templates.dot.portable import PortableDot
from graphopt.targets.schedules.templates.dot.split import SplitDot
from graphopt.targets.schedules.templates.dot.vnni import QuadDot
from tests.targets.conftest import runnable
from tests.targets.raw_kernels import Call, run_kernels

STEPS = 3
TILES = ((1, 1), (2, 3), (3, 2), (5, 1))
"""Columns and vectors."""

SQUARES = ((1, 1), (16, 4), (17, 2), (32, 2), (20, 1), (64, 1))
"""The same for registers that hold squares."""

RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(1 << 15), (1 << 15) - 1)}
RANGES |= {"wide": (-254, 254), **{f"{p.bits} bits": (0, p.levels - 1) for p in PACKINGS}}
"""Of inputs and of weights."""

FOUR = PACKINGS[-1]


@dataclasses.dataclass(frozen=True)
class Case:
    """A dot product in a tile, fed with numbers that are extreme or random."""

    dot: Dot
    dtype: str
    columns: int
    vectors: int
    extreme: bool
    weights: str = "int8"

    @property
    def depth(self) -> int:
        return STEPS * self.dot.depth

    def operands(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(self.columns)
        low, high = RANGES[self.dtype]
        w_low, w_high = RANGES[self.weights]
        if self.dot.name == "smlal":
            w_low = -127
        shapes = (self.columns, self.depth), (self.vectors * self.dot.lanes, self.depth)
        if self.extreme:
            x = random.choice([low, high], shapes[0], p=[0.9, 0.1])
            w = random.choice([w_low, w_high], shapes[1], p=[0.9, 0.1])
        else:
            x, w = random.integers(low, high + 1, shapes[0]), random.integers(w_low, w_high + 1, shapes[1])
        bias = random.integers(-(10**6), 10**6, self.vectors * self.dot.lanes)
        if self.weights.endswith("bits"):
            w = w - random.integers(0, w_high + 1, (len(w), 1))
        return x.astype(self.dtype), w.astype(self.stored), bias.astype(np.int32)

    @property
    def name(self) -> str:
        """A C identifier."""
        kind = f"{self.dot.name}_{self.dot.lanes}_{self.dot.depth}_{self.weights}_{self.dtype}"
        tile = f"{self.columns}x{self.vectors}_{int(self.extreme)}"
        return f"{kind}_{tile}".replace("-", "_").replace(" ", "_")

    @property
    def stored(self) -> str:
        """The type of the packed weights."""
        return "int16" if self.weights == "wide" else "int8"

    def expected(self) -> np.ndarray:
        """The middle column of three or more has no inputs."""
        x, w, bias = self.operands()
        sums = x.astype(np.int64) @ w.T.astype(np.int64)
        sums[list(self.missing)] = 0
        return (sums + bias).astype(np.int32)

    @property
    def missing(self) -> set[int]:
        return {1} if self.columns > 2 and self.dot.rows_read == 1 else set()

    def call(self) -> Call:
        x, w, bias = self.operands()
        dot = self.dot
        above, beside = dot.above_least(w)
        by_step = above.reshape(self.vectors, dot.lanes, STEPS, dot.depth).transpose(2, 0, 1, 3)
        packed = dot.pack(by_step).reshape(-1)
        assert packed.size == self.packed_elements and packed.dtype == self.stored
        x = np.pad(x, [(0, -self.columns % dot.rows_read), (0, 0)])
        operands = x.astype(dot.read_as(self.dtype)), np.concatenate([packed, beside.reshape(-1)]), bias
        return Call(self.kernel(), operands, self.expected())

    @property
    def packed_elements(self) -> int:
        return STEPS * self.vectors * self.dot.step_bytes

    def kernel(self) -> tirx.PrimFunc:
        dot, columns, vectors = self.dot, self.columns, self.vectors
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            rows = -(-columns // dot.rows_read) * dot.rows_read
            x = T.arg("x", T.buffer((rows * self.depth,), dot.read_as(self.dtype)))
            beside = vectors * dot.lanes * dot.least_bytes
            w = T.arg("w", T.buffer((self.packed_elements + beside,), self.stored))
            bias = T.arg("bias", T.buffer((vectors * dot.lanes,), "int32"))
            y = T.arg("y", T.buffer((columns * vectors * dot.lanes,), "int32"))
            with dot.tasks(1, 1, load_target("x86-64-v4")):
                sums = dot.begin(columns, vectors, Pointer(bias)).above(Pointer(w, self.packed_elements))
                with T.serial(STEPS) as step:
                    starts = [Pointer(x, column * self.depth + step * dot.depth) for column in range(columns)]
                    inputs = [None if n in self.missing else start for n, start in enumerate(starts)]
                    dot.step(sums, inputs, Pointer(w, step * (vectors * dot.step_bytes)))
                found = dot.results(sums)
                for vector in range(columns * vectors):
                    here = vector * dot.lanes
                    Pointer(y, here).store(Pointer(found, here).load(dot.lanes))
        return builder.get()


def cases(dot: Dot, *types: str, weights: str = "int8") -> dict[str, Case]:
    """A dot in every tile, with every type of inputs."""
    found = [
        Case(dot, dtype, columns, vectors, extreme, weights)
        for dtype in types
        for columns, vectors in (SQUARES if dot.rows_read > 1 else TILES)
        for extreme in (False, True)
    ]
    return {case.name: case for case in found}


def chosen(target: Target, dtype: str, depth: int, weights: str = "int8") -> dict[str, Case]:
    dot = choose_dot(
        target, dtype, np.array([RANGES[weights][1]], "int16" if weights == "wide" else weights), depth
    )
    return cases(dot, dtype, weights=weights)


def of_few_bits(wanted: dict[str, Case], depth: int) -> dict[str, Case]:
    """The same dots on weights of 4 bits; on those of 3 and of 2 in every other tile."""
    found: dict[str, Case] = {}
    for case in wanted.values():
        for packing in PACKINGS:
            packed = in_few_bits(case.dot, depth, np.zeros((1, 1), np.int8), packing)
            assert packed is not None and packed.depth in (
                case.dot.depth,
                2 * case.dot.depth,
                4 * case.dot.depth,
            )
            if packing is FOUR or case.vectors > 1:
                few = dataclasses.replace(case, dot=packed, weights=f"{packing.bits} bits")
                found |= {few.name: few}
    return found


def check(wanted: dict[str, Case], target: Target, folder: Path) -> None:
    results = run_kernels({name: case.call() for name, case in wanted.items()}, target, folder)
    for name, case in wanted.items():
        np.testing.assert_array_equal(results[name], case.expected(), err_msg=name)


def boards() -> list[object]:
    """Machines with every instruction of ARM."""
    return [
        pytest.param(name, marks=runnable(name)) for name in ("rpi4", "rpi5", "aarch64-v8.6", "rpi-armv7")
    ]


@pytest.mark.parametrize("name", boards())
def test_instructions_of_arm(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    wanted: dict[str, Case] = {}
    for depth in (8, 16):
        plain = chosen(target, "int8", depth) | chosen(target, "uint8", depth)
        wanted |= plain | of_few_bits(plain, 16)
    shorts = chosen(target, "int16", 8)
    wanted |= shorts | of_few_bits(shorts, 16) | chosen(target, "int16", 4, "wide")
    wanted |= chosen(target, "int8", 16, "wide")
    check(wanted, target, tmp_path)


def test_instructions_of_x86(tmp_path: Path) -> None:
    host = load_target("host")
    if host.family != "x86":
        pytest.skip("this is no x86 machine")
    wanted = cases(PairDot(4, 4), "uint8", "int8", "int16")
    if host.vector_bits >= 256:
        wanted |= cases(PairDot(8, 4), "uint8", "int8", "int16")
    wanted |= chosen(host, "int16", 4)
    wanted |= of_few_bits(wanted, 16)
    if host.vector_bits >= 256:
        wanted |= cases(PairDot(8, 2), "uint8", weights="wide")
    check(wanted, host, tmp_path)


@pytest.mark.skipif(not load_target("host").uses_amx, reason="this machine has no AMX")
def test_squares_of_amx(tmp_path: Path) -> None:
    check(cases(AmxDot(16, 64), "uint8", "int8"), load_target("host"), tmp_path)


def test_instructions_this_machine_may_lack(tmp_path: Path) -> None:
    """They are written out: packing and order are those of the instruction."""
    wanted = cases(QuadDot(16, 4, emulated=True), "uint8") | cases(QuadDot(8, 8, emulated=True), "uint8")
    wanted |= of_few_bits(wanted, 16)
    wanted |= cases(SplitDot.of(QuadDot(16, 4, emulated=True)), "uint8", weights="wide")
    wanted |= cases(AmxDot(16, 64, emulated=True), "uint8", "int8")
    wanted |= cases(PortableDot(8, 3), "uint8", "int8") | cases(PortableDot(4, 1), "int8", weights="wide")
    check(wanted, load_target("host"), tmp_path)


def test_weights_that_no_two_bytes_make() -> None:
    target = load_target("rpi5")
    assert choose_dot(target, "int8", np.array([254, -255], np.int16), 16).name == "sdot-twice"
    assert choose_dot(target, "int8", np.array([255], np.int16), 16).name == "portable"
    assert choose_dot(load_target("rpi4"), "int8", np.array([-128], np.int8), 16).depth == 8


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_few_bits_hold(packing: Packing) -> None:
    """The levels of so many bits, zero among them; each channel by itself."""
    most = packing.levels - 1
    dot = choose_dot(load_target("rpi5"), "int8", np.array([1], np.int8), 16)
    for rows, fits in (
        ((-1, most - 1), True),
        ((-1, most), False),
        ((2, most), True),
        ((2, most + 1), False),
    ):
        weights = np.array([rows, (0, most), (-most, 0)], np.int8)
        packed = in_few_bits(dot, 16, weights, packing)
        assert (packed is not None) == fits
        if packed is not None:
            assert packed.step_bytes == dot.step_bytes * packing.bits // 8
    fitting = np.array([(0, most)], np.int8)
    assert in_few_bits(dot, 16, fitting, packing) is not None
    assert in_few_bits(dot, 16, fitting.astype(np.int16), packing) is None
    assert in_few_bits(SplitDot.of(dot), 16, fitting, packing) is None
    assert in_few_bits(dataclasses.replace(dot, depth=4), 4, fitting, packing) is None


def test_few_bits_are_unpacked_where_that_takes_little() -> None:
    """A quarter more of the cycles, or no more than that of the weights' way from memory."""
    target = dataclasses.replace(load_target("rpi5"), memory_bytes_per_cycle=2)
    assert stays_packed(124.0, 100.0, 10, FOUR, target) and not stays_packed(126.0, 100.0, 10, FOUR, target)
    assert stays_packed(600.0, 100.0, 1000, FOUR, target) and not stays_packed(
        630.0, 100.0, 1000, FOUR, target
    )
