"""Modelled cycles: what a processor's pipelines would need for the blocks that were executed.

    cycles  =  sum over blocks of  executions * (cycles of the block, repeated, in llvm-mca's model of the processor)

No cache misses, no branch misses, and blocks do not overlap with their neighbours: good for ratios and for the share
of the arithmetic bound, never a time. The recorded figures of peers are from llvm-mca 19; ours are comparable with no
other version, for the models change. The Cortex-A76 is modelled as the Neoverse N1, its twin.

The model of the Cortex-A53 lets loads wait behind a multiply-add, which the processor does not: its cycles rank
kernels, and are no share of a bound.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.guest import Block
from graphopt.errors import ToolchainError

VERSION = "19"
MODELS = {"cortex-a53": "cortex-a53", "cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1"}
"""LLVM's model of each processor."""

ONLY_RANKED = frozenset({"cortex-a53"})
"""Processors whose modelled cycles are good for nothing but to compare kernels with each other."""

REPETITIONS = 50
AT_ONCE = 200
"""Blocks in one call of llvm-mca."""

MODELLED = 0.9999
"""Share of the executed instructions whose blocks are modelled; the rest counts as their mean does."""

ERROR_LENGTH = 300
SEPARATOR, SEPARATOR_TEXT = bytes.fromhex("a0d53bd4"), "brk #0xdead"
MULTIPLY_ADD = re.compile(r"fml[as]\s+v\d+\.(4s|8h)")


@dataclass(frozen=True)
class Timing:
    """Modelled cycles of all blocks; vector multiply-adds executed; both within the innermost loops.

    The innermost loops are the blocks with most multiply-adds, up to nine tenths of all.
    """

    cycles: float
    multiply_adds: int
    inner_cycles: float
    inner_multiply_adds: int


def missing() -> str | None:
    """Why nothing can be modelled here, with the way out; None when it can."""
    for tool in ("llvm-mca", "llvm-mc"):
        if _tool(tool) is None:
            return f"{tool} {VERSION} is not installed (Debian: apt-get install llvm-{VERSION})"
    return None


class Model:
    """One processor's pipelines, by LLVM's name of it; remembers the blocks it has seen."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        self.known: dict[bytes, tuple[float | None, int]] = {}

    def timing(self, blocks: Iterable[Block]) -> Timing:
        chosen, left_out = _most(list(blocks))
        self._learn({block.code for block in chosen if block.code})
        modelled = total = 0
        cycles, adds, by_adds = 0.0, 0, []
        for block in chosen:
            per_run, fused = self.known.get(block.code, (None, 0))
            total += block.count
            if per_run is None:
                continue
            modelled += block.count
            cycles += per_run * block.executions
            adds += fused * block.executions
            by_adds.append((fused * block.executions, per_run * block.executions))
        if not modelled:
            return Timing(float(total + left_out), 0, 0.0, 0)
        inner_cycles, inner_adds = 0.0, 0
        for fused, spent in sorted(by_adds, reverse=True):
            if not fused or inner_adds >= 0.9 * adds:
                break
            inner_cycles += spent
            inner_adds += fused
        return Timing(cycles * (total + left_out) / modelled, adds, inner_cycles, inner_adds)

    def _learn(self, codes: set[bytes]) -> None:
        fresh = sorted(codes - self.known.keys())
        for start in range(0, len(fresh), AT_ONCE):
            batch = fresh[start : start + AT_ONCE]
            texts = disassembled(batch)
            for code, text, cycles in zip(batch, texts, self._cycles(texts), strict=True):
                self.known[code] = cycles, sum(bool(MULTIPLY_ADD.match(line)) for line in text)

    def _cycles(self, texts: Sequence[Sequence[str]]) -> list[float | None]:
        """Cycles of each block when it is repeated; None for one that the model does not know."""
        regions = "".join(
            f"# LLVM-MCA-BEGIN r{n}\n{chr(10).join(lines)}\n# LLVM-MCA-END r{n}\n"
            for n, lines in enumerate(texts)
        )
        options = [
            "-mtriple=aarch64-linux-gnu",
            "-mattr=+all",
            f"-mcpu={self.cpu}",
            f"-iterations={REPETITIONS}",
            "-instruction-info=0",
            "-resource-pressure=0",
            "-skip-unsupported-instructions=any",
        ]
        said = _output("llvm-mca", options, regions)
        found = re.findall(r"Code Region - r(\d+).*?Total Cycles:\s+(\d+)", said, re.S)
        cycles = {int(number): int(total) / REPETITIONS for number, total in found}
        return [cycles.get(n) for n in range(len(texts))]


def disassembled(codes: Sequence[bytes]) -> list[list[str]]:
    """The instructions of each piece of aarch64 code as text."""
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in code + SEPARATOR) for code in codes)
    blocks: list[list[str]] = [[]]
    for line in _output(
        "llvm-mc", ["-disassemble", "-triple=aarch64-linux-gnu", "-mattr=+all"], text
    ).splitlines():
        instruction = line.split("//")[0].strip().replace("\t", " ")
        if SEPARATOR_TEXT in instruction:
            blocks.append([])
        elif instruction and not instruction.startswith("."):
            blocks[-1].append(instruction)
    return blocks[:-1]


def _most(blocks: list[Block]) -> tuple[list[Block], int]:
    """The blocks with most instructions, up to the share that is modelled; instructions of the others."""
    blocks.sort(key=lambda block: (-block.count, block.code))
    total = sum(block.count for block in blocks)
    chosen, counted = [], 0
    for block in blocks:
        if counted >= MODELLED * total:
            break
        chosen.append(block)
        counted += block.count
    return chosen, total - counted


def _tool(name: str) -> str | None:
    return shutil.which(f"{name}-{VERSION}")


def _output(tool: str, options: Sequence[str], text: str) -> str:
    program = _tool(tool)
    assert program is not None
    done = subprocess.run([program, *options], input=text, capture_output=True, text=True)
    if not done.stdout:
        raise ToolchainError(f"{tool} said nothing but {done.stderr[:ERROR_LENGTH]!r}")
    return done.stdout
