"""Figures of the counts on microcontrollers, and modelled cycles."""

from __future__ import annotations

import pytest

from bench.common import Report
from bench.mcu import CLASSIFIERS, ZOO_FLOAT, ZOO_INT8, figures
from bench.mcu_cycles import INSTRUCTION, block_cycles
from bench.mcu_peers import FLOAT32, INT8
from bench.readme import mcu_table


def row(model: str, core: str, **columns: object) -> dict:
    return {"model": model, "kind": "int8", "core": core, "exact": True, **columns}


ROWS = [
    row("a", "cortex-m4f", **{"M instr": 3.0, "TFLM": 6.0, "ratio": 0.5, "flash": 12_345}),
    row("b", "cortex-m4f", **{"ratio": 0.7, "RAM ratio": 0.6, "overhead": 0.3, "exact": False}),
    row("a", "cortex-m55", ratio=0.4),
    row("a", "cortex-m0plus", lost=-0.01),
    row("a", "cortex-m4f", kind="float32", **{"cycle ratio": 0.9, "M cycles": 9.0, "best peer": "x"}),
]


def test_the_worst_of_each_core_counts() -> None:
    assert figures(ROWS) == {
        "bit_exact": 0.75,
        "m4f_instructions_worst": 0.7,
        "m55_instructions_worst": 0.4,
        "ram_worst": 0.6,
        "flash_overhead_worst": 0.3,
        "m4f_float_worst": 0.9,
        "answers_lost_worst": -0.01,
    }
    assert figures([]) == {}


def test_the_table_shows_a_dash_for_what_is_unknown() -> None:
    rows = [{"its": 10.0, **one} for one in ROWS]
    text = mcu_table(Report("t", (), rows, figures(rows)))
    assert "| a | cortex-m4f | 3 | 6 | 0.5 | 12,345 | - | - | - |" in text
    assert "| a | 9 | x | 10 | 0.9 |" in text and "`ram_worst` 0.60" in text


def test_peers_are_known_for_every_model() -> None:
    assert {model for model, _ in INT8} == set(ZOO_INT8) == set(ZOO_FLOAT) == set(FLOAT32)
    assert set(CLASSIFIERS) < set(ZOO_INT8)
    assert all(peer.ram and peer.flash for (_, core), peer in INT8.items() if core == "cortex-m4f")


@pytest.mark.parametrize(
    ("listing", "cycles"),
    [
        ("ldr\tr0, [r1]", 2),
        ("ldr\tr0, [r1]\nldr\tr2, [r1, #4]\nadds\tr0, r0, r2", 4),
        ("ldrd\tr0, r1, [r2]", 3),
        ("push\t{r4, r5, r6, lr}", 5),
        ("vpop\t{d8}", 2),
        ("smlad\tr0, r1, r2, r0\nbne.n\t10 <f+0x4>", 4),
        ("bic.w\tr0, r0, #1\nbfi\tr0, r1, #0, #8", 2),
        ("sdiv\tr0, r0, r1\nvdiv.f32\ts0, s1, s2\nvfma.f32\ts0, s1, s2", 23),
        ("bx\tlr\ncbz\tr0, 8 <g>\nbl\t0 <f>", 9),
    ],
)
def test_cycles_follow_the_list(listing: str, cycles: int) -> None:
    lines = (INSTRUCTION.match(f"    {n:x}:\t{line}") for n, line in enumerate(listing.split("\n")))
    assert block_cycles((m[2], m[3]) for m in lines if m) == cycles
