"""Counting guest instructions under QEMU, and modelling their cycles: a loop whose every instruction is known."""

from __future__ import annotations

import pytest

from bench import cycles, guest
from graphopt.targets.device import load_target
from graphopt.targets.instruction_counts import build_plugin
from graphopt.targets.toolchain import Toolchain

TARGET = load_target("rpi4")
REASON = guest.missing(TARGET)
pytestmark = [pytest.mark.qemu, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

SHORT, LONG = 1000, 3000
PROGRAM = f"""\
#include <stdio.h>
#include <unistd.h>

static void loop(long trips) {{
    __asm__ volatile(
        "1: fmla v0.4s, v8.4s, v9.4s\\n fmla v1.4s, v8.4s, v9.4s\\n fmla v2.4s, v8.4s, v9.4s\\n"
        "fmla v3.4s, v8.4s, v9.4s\\n fmla v4.4s, v8.4s, v9.4s\\n fmla v5.4s, v8.4s, v9.4s\\n"
        "fmla v6.4s, v8.4s, v9.4s\\n fmla v7.4s, v8.4s, v9.4s\\n subs %0, %0, #1\\n b.ne 1b"
        : "+r"(trips) : : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "cc");
}}

int main(void) {{
    loop(2); /* the first call of a function is bound at run time */
    getppid();
    loop({SHORT});
    getppid();
    loop({LONG});
    getppid();
    FILE *from = fopen("/proc/self/maps", "r"), *to = fopen("maps.txt", "w");
    for (int c; (c = fgetc(from)) != EOF;) fputc(c, to);
    return fclose(to);
}}
"""
IN_LOOP, MULTIPLY_ADDS = 10, 8
"""Instructions of one trip, and the vector multiply-adds among them."""


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[guest.Block]]:
    folder = tmp_path_factory.mktemp("counted")
    (folder / "loop.c").write_text(PROGRAM)
    Toolchain().link_executable([folder / "loop.c"], folder / "loop", TARGET)
    plugin = build_plugin(folder, TARGET)
    return guest.run_with_plugin(TARGET, plugin, ["./loop"], folder)


def test_every_trip_is_counted(sections: dict[int, list[guest.Block]]) -> None:
    short, long = (sum(block.count for block in sections[number]) for number in (1, 2))
    assert long - short == IN_LOOP * (LONG - SHORT)


@pytest.mark.skipif(cycles.missing() is not None, reason=cycles.missing() or "")
@pytest.mark.parametrize(("processor", "per_cycle"), [("cortex-a72", 1), ("cortex-a76", 2)])
def test_the_model_knows_the_bound(
    sections: dict[int, list[guest.Block]], processor: str, per_cycle: int
) -> None:
    """Eight sums that do not wait for each other keep the multipliers of either processor busy."""
    timing = cycles.Model(cycles.MODELS[processor]).timing(sections[2])
    assert timing.inner_multiply_adds == pytest.approx(MULTIPLY_ADDS * LONG, abs=2 * MULTIPLY_ADDS)
    bound = timing.inner_multiply_adds / per_cycle
    assert bound <= timing.inner_cycles <= 1.15 * bound
