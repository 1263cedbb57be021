"""Modelled cycles on a Cortex-M4F: what its pipeline would need for the blocks that were executed.

    cycles  =  sum over instructions of  executions * (1, or what the list below tells)

An instruction after another does not overlap with it; there are no wait states of flash, and every branch is taken.
Good for ratios of programs that were counted alike, never a time. Recorded figures of peers are from these very rules.

Source: "Cortex-M4 Technical Reference Manual", Arm 100166, chapter 3 (instruction timings), simplified.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path

from graphopt.targets.device import Target
from graphopt.targets.firmware.measured import OF_RUNNER, functions, told

SEVERAL = re.compile(r"v?(ldm|stm|push|pop)")
"""A cycle, and one for each register."""
LOAD = re.compile(r"v?ldr")
"""Two cycles, one where the instruction before is a load too; a pair has one more."""
BRANCH = re.compile(r"(bl?x?|cbn?z|b(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al))(\.[nw])?$")
OTHERS = (
    (re.compile(r"[su]div"), 6),
    (re.compile(r"v(div|sqrt)"), 14),
    (re.compile(r"v(mla|fma|mls|fms|nml)"), 3),
    (BRANCH, 3),
)
INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(\S+)\s*(.*)")

Block = tuple[int, int, int, int]
"""Section, address, instructions, executions."""


def modelled(program: Path, target: Target, blocks: Iterable[Block], runs: int) -> float:
    """Cycles of one of `runs` runs of a program's model; its start, samples and paint aside."""
    code = disassembled(program, target)
    addresses = sorted(code)
    symbols = functions(program, target)
    starts, names = [start for start, _ in symbols], [name for _, name in symbols]
    total = 0
    for _, address, instructions, executions in blocks:
        place = bisect_right(starts, address) - 1
        if place >= 0 and names[place] not in OF_RUNNER:
            first = bisect_left(addresses, address)
            total += executions * block_cycles(code[a] for a in addresses[first : first + instructions])
    return total / runs


def block_cycles(instructions: Iterable[tuple[str, str]]) -> int:
    """Of a block that is executed once: mnemonics and operands."""
    total, after_load = 0, False
    for mnemonic, operands in instructions:
        is_load = bool(LOAD.match(mnemonic))
        if SEVERAL.match(mnemonic):
            total += 2 + operands.count(",")
        elif is_load:
            total += (1 if after_load else 2) + mnemonic.startswith("ldrd")
        else:
            total += next((cycles for pattern, cycles in OTHERS if pattern.match(mnemonic)), 1)
        after_load = is_load
    return total


def disassembled(program: Path, target: Target) -> dict[int, tuple[str, str]]:
    """Mnemonic and operands by address."""
    said = told(target, "objdump", "-d", "--no-show-raw-insn", program)
    found = (INSTRUCTION.match(line) for line in said.splitlines())
    return {int(m[1], 16): (m[2], m[3]) for m in found if m}
