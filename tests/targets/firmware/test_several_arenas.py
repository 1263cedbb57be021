"""Boards with several regions of RAM: an arena in each where none holds all, or one in the first that does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.api import optimize
from graphopt.preparation import legalized
from graphopt.runtime import reference
from graphopt.targets.abi import ModelAbi
from graphopt.targets.bundle import Bundle
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.plan_memory import Buffer
from graphopt.targets.several_arenas import Room, spread
from graphopt.verification import random_sample
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import STRICT, clang
from tests.targets.firmware.residual import residual
from tests.targets.firmware.test_sources import SOURCES, called

REGION = '[[regions]]\nname = "{}"\nkind = "{}"\nstart = {}\nbytes = {}\n'

CALLER = """
#include <stdio.h>
#include <string.h>
#include "net.h"
static unsigned char dtcm[NET_ARENA_DTCM_BYTES + 17] NET_ALIGNED, sram[NET_ARENA_SRAM_BYTES + 17] NET_ALIGNED;
int main(void) {
    memset(dtcm, 0x5A, sizeof dtcm);
    memset(sram, 0x5A, sizeof sram);
    printf("%d ", net_run(NULL, sizeof dtcm, sram, sizeof sram) == NET_ERROR_NULL);
    printf("%d ", net_run(dtcm, sizeof dtcm, NULL, sizeof sram) == NET_ERROR_NULL);
    printf("%d ", net_run(dtcm, NET_ARENA_DTCM_BYTES - 1, sram, sizeof sram) == NET_ERROR_ARENA_DTCM);
    printf("%d ", net_run(dtcm, sizeof dtcm, sram, NET_ARENA_SRAM_BYTES - 1) == NET_ERROR_ARENA_SRAM);
    printf("%d ", net_run(dtcm, sizeof dtcm, sram + 1, NET_ARENA_SRAM_BYTES) == NET_ERROR_ALIGNMENT);
    for (size_t i = 0; i < sizeof dtcm; i++) if (dtcm[i] != 0x5A) return 1;
    for (size_t i = 0; i < sizeof sram; i++) if (sram[i] != 0x5A) return 1;
    printf("%d ", net_selftest(dtcm, NET_ARENA_DTCM_BYTES, sram, NET_ARENA_SRAM_BYTES));
    printf("%d %d", dtcm[NET_ARENA_DTCM_BYTES] == 0x5A, sram[NET_ARENA_SRAM_BYTES] == 0x5A);
    return 0;
}
"""

Compiled = Callable[[int, int], Bundle]


@pytest.fixture
def board(tmp_path: Path) -> Compiled:
    """`board(3072, 1536)`: the residual network for a board with these bytes of DTCM and SRAM, without patches."""

    def made(dtcm: int, sram: int, *, keep_inputs: bool = False) -> Bundle:
        regions = [("flash", "flash", 0, 1 << 20), ("dtcm", "ram", 0x2000_0000, dtcm)]
        regions.append(("sram", "ram", 0x2400_0000, sram))
        text = "".join(REGION.format(*region) for region in regions)
        (tmp_path / "two.toml").write_text(f'base = "mps2-an386"\n{text}')
        options = {"patch": False, "keep_inputs": keep_inputs, "name": "net"}
        return graphopt.compile(residual(), target=tmp_path / "two.toml", out=tmp_path / "fw", **options)

    return made


@pytest.mark.parametrize("core", [pytest.param("mps2-an386", marks=runnable("mps2-an386"))])
@pytest.mark.parametrize("keep_inputs", [False, True])
def test_two_regions_hold_what_none_does(board: Callable[..., Bundle], core: str, keep_inputs: bool) -> None:
    """Bit for bit the reference, with the self-test; reports tell what lies in which."""
    bundle = board(3072, 1536, keep_inputs=keep_inputs)
    arenas = dict(bundle.abi.arenas)
    assert list(arenas) == ["dtcm", "sram"] and arenas["dtcm"] <= 3072 and arenas["sram"] <= 1536
    assert sum(arenas.values()) == bundle.abi.workspace_bytes > 3072
    assert ModelAbi.parse(bundle.abi.describe()) == bundle.abi
    regions = json.loads((bundle.path / "memory.json").read_text())["regions"]
    assert [(r["region"], r["arena"], r["region_bytes"]) for r in regions] == [
        ("dtcm", arenas["dtcm"], 3072),
        ("sram", arenas["sram"], 1536),
    ]
    assert f"| sram | {arenas['sram']} | 1536 |" in (bundle.path / "memory.md").read_text()
    exact = legalized(optimize(residual()), fixed_point=True)
    samples = [random_sample(bundle.abi.inputs, seed) for seed in range(2)]
    for sample, outputs in zip(samples, EmulatedFirmware(bundle, selftest=True).run(samples), strict=True):
        for name, array in reference.run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], array)


def test_each_arena_is_checked(board: Compiled) -> None:
    """Nothing is written then, nor behind either; C without a warning."""
    bundle = board(3072, 1536)
    bare = ["-ffreestanding", "-I", str(Path(__file__).parent / "headers")]
    for source in SOURCES:
        done = clang(bundle.path, *STRICT, *bare, "-O1", "-c", source, target="thumb-freestanding-eabi")
        assert done.returncode == 0, done.stderr[:2000]
    assert called(bundle.path, CALLER) == ["1", "1", "1", "1", "1", "0", "1", "1"]


def test_one_region_that_holds_all_is_enough(board: Compiled) -> None:
    """The first one, and the interface of any other board."""
    bundle = board(3072, 16384)
    assert (
        not bundle.abi.arenas and "int net_run(void *arena, size_t arena_bytes);" in bundle.header.read_text()
    )
    memory = json.loads((bundle.path / "memory.json").read_text())
    assert [r["region"] for r in memory["regions"]] == ["sram"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=12)
)
def test_what_lives_together_lies_apart(drawn: list[tuple[int, int, int]]) -> None:
    """Each buffer in one room as a whole, whatever the buffers."""
    buffers = [Buffer(f"b{n}", size, first, first + more) for n, (size, first, more) in enumerate(drawn)]
    rooms = [Room("a", 256), Room("b", 400)]
    plan = spread(buffers, rooms, 16)
    if plan is None:
        assert sum(b.size + 15 for b in buffers) > 256
        return
    ends = np.cumsum([size for _, size in plan.arenas])
    assert all(size <= {"a": 256, "b": 400}[name] for name, size in plan.arenas)
    for n, b in enumerate(buffers):
        start = plan.offsets[b.name]
        assert not any(start < end < start + b.size for end in ends) and start + b.size <= plan.size
        for other in buffers[:n]:
            place = plan.offsets[other.name]
            assert not b.meets(other) or start + b.size <= place or place + other.size <= start
