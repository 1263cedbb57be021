"""What a program for a board takes: flash and RAM by section, and guest instructions by function."""

from __future__ import annotations

import bisect
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphopt.targets.device import Target
from graphopt.targets.firmware.routines import is_routine
from graphopt.targets.instruction_counts import read_counts

IN_FLASH = (".text", ".ARM.exidx", ".data")
IN_RAM = (".data", ".bss")

OF_RUNNER = frozenset(
    "board_start fault main paint semihosting_call semihosting_end semihosting_exit start unpainted".split()
)
"""Functions that are not the model's."""


@dataclass(frozen=True)
class Measured:
    """Bytes of each section of a program, the most bytes of stack that a run took, instructions of one run by function
    (empty where they were not counted)."""

    sections: Mapping[str, int]
    stack_bytes: int = 0
    instructions: Mapping[str, int] = field(default_factory=dict)

    @property
    def flash_bytes(self) -> int:
        """Code, constants and initial data of the whole program."""
        return sum(self.sections.get(name, 0) for name in IN_FLASH)

    @property
    def ram_bytes(self) -> int:
        """Data, the arena, inputs, outputs and the stack."""
        return sum(self.sections.get(name, 0) for name in IN_RAM) + self.stack_bytes

    @property
    def total_instructions(self) -> int:
        """Of one run."""
        return sum(self.instructions.values())


def sections_of(program: Path, target: Target) -> dict[str, int]:
    """Bytes of each section in the memory of the board."""
    said = told(target, "size", "-A", program)
    fields = (line.split() for line in said.splitlines())
    return {f[0]: int(f[1]) for f in fields if len(f) == 3 and f[0].startswith(".") and f[2].isdigit()}


def kernels_of(program: Path, target: Target, model: str) -> dict[int, str]:
    """Addresses and names of a model's kernels."""
    others = (f"{model}_run", f"{model}_selftest")
    symbols = functions(program, target)
    return {place: name for place, name in symbols if name.startswith(f"{model}_") and name not in others}


def instructions_of(
    program: Path, target: Target, counts: Path, runs: int, kernels: Mapping[int, str]
) -> dict[str, int]:
    """Instructions of one of `runs` runs by function, those of the C library among them, the most first. A section of
    the counts begins with each call of a kernel: what routines take in it belongs to the kernel."""
    symbols = functions(program, target)
    starts = [address for address, _ in symbols]
    found: Counter[str] = Counter()
    blocks = list(read_counts(counts))
    kernel_of = {section: kernels[place] for section, place, _, _ in blocks if place in kernels}
    for section, address, instructions, executions in blocks:
        place = bisect.bisect_right(starts, address) - 1
        name = symbols[place][1] if place >= 0 else "?"
        name = kernel_of.get(section, name) if is_routine(name) else name
        found[name] += instructions * executions
    return {name: count // runs for name, count in found.most_common() if name not in OF_RUNNER}


def functions(program: Path, target: Target) -> list[tuple[int, str]]:
    """Addresses and names of the program's functions, in order."""
    said = told(target, "nm", "--defined-only", "--numeric-sort", program)
    entries = (line.split(maxsplit=2) for line in said.splitlines())
    return [(int(a, 16) & ~1, name) for a, kind, name in entries if kind in "tTwW" and name[0] not in "$."]


def told(target: Target, tool: str, *arguments: str | Path) -> str:
    """What one of the target's binary utilities says."""
    command = [f"{target.gcc}{tool}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
