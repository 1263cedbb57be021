"""Exact counts of guest instructions: a bundle for another machine under QEMU's user emulation, block by block.

What is counted is one inference, on one thread, after one to warm up; the counts are the same on every machine.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphopt
from graphopt.errors import ToolchainError
from graphopt.targets import emulator
from graphopt.targets.device import Target
from graphopt.targets.instruction_counts import build_plugin, no_plugins, options, read_counts
from graphopt.targets.toolchain import Toolchain

SOURCES = Path(__file__).parent / "emulation"
INSTRUCTION_BYTES = 4
NAME = "model"
"""What `run_once.c` calls the model."""

RUN, BEFORE_LAYERS = 1, 2
"""Sections between the marks: a whole run, and what comes before the first layer of the next."""


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one after another; `code` are their bytes."""

    instructions: int
    executions: int
    code: bytes

    @property
    def count(self) -> int:
        """Guest instructions in all."""
        return self.instructions * self.executions


@dataclass(frozen=True)
class Counts:
    """Blocks of one run, and of each layer in the order of the bundle's report; the outputs by name."""

    run: list[Block]
    layers: list[list[Block]]
    outputs: dict[str, np.ndarray]

    @property
    def instructions(self) -> int:
        return sum(block.count for block in self.run)


def missing(target: Target) -> str | None:
    """Why nothing can be counted for `target` here, with the way out; None when it can."""
    if target.triple.split("-")[0] != "aarch64":
        return f"{target.name} is no aarch64 machine"
    if target.is_native:
        return f"this machine runs code for {target.name} itself, without the emulator that counts"
    return emulator.missing(target) or no_plugins(target)


def count(bundle: graphopt.Bundle, inputs: Mapping[str, np.ndarray], folder: Path) -> Counts:
    """Run a bundle called "model", compiled with `profile=True`; works in `folder`.

    Raises ToolchainError when something is missing or the program fails.
    """
    reason = missing(bundle.target)
    if reason:
        raise ToolchainError(reason)
    plugin = build_plugin(folder, bundle.target)
    for file in (bundle.library, bundle.header, SOURCES / "run_once.c"):
        shutil.copy(file, folder)
    program = folder / "run_once"
    Toolchain().link_executable([folder / "run_once.c", folder / bundle.library.name], program, bundle.target)
    names = []
    for index, spec in enumerate(bundle.abi.inputs):
        names.append(f"input_{index}.bin")
        (folder / names[-1]).write_bytes(np.ascontiguousarray(inputs[spec.name]).tobytes())
    sizes = [str(spec.nbytes) for spec in bundle.abi.outputs]
    sections = run_with_plugin(bundle.target, plugin, ["./run_once", *names, "--", *sizes], folder)
    layers = [sections[BEFORE_LAYERS + 1 + 2 * n] for n in range(bundle.abi.profiled_layers)]
    outputs = {
        spec.name: np.fromfile(folder / f"output_{n}.bin", spec.dtype.numpy).reshape(spec.shape)
        for n, spec in enumerate(bundle.abi.outputs)
    }
    return Counts(sections[RUN], layers, outputs)


def run_with_plugin(
    target: Target, plugin: Path, command: Sequence[str], folder: Path
) -> dict[int, list[Block]]:
    """Blocks executed in each section of a program that leaves the map of its memory in `maps.txt`."""
    counts = folder / "counts.txt"
    emulator.run(target, command, folder=folder, options=options(plugin, counts))
    code = _Code((folder / "maps.txt").read_text())
    sections: dict[int, list[Block]] = defaultdict(list)
    for section, address, instructions, executions in read_counts(counts):
        bytes_of_block = code.at(address, instructions * INSTRUCTION_BYTES)
        sections[section].append(Block(instructions, executions, bytes_of_block))
    return sections


class _Code:
    """The bytes of the files that a process has mapped."""

    def __init__(self, maps: str) -> None:
        pattern = re.compile(r"(\w+)-(\w+) \S+ (\w+) \S+ \d+\s+(/.*)")
        found = (pattern.fullmatch(line) for line in maps.splitlines())
        self.ranges = [(*(int(m[n], 16) for n in (1, 2, 3)), Path(m[4])) for m in found if m]
        self.files: dict[Path, bytes] = {}

    def at(self, address: int, size: int) -> bytes:
        """Empty where no file tells."""
        for low, high, offset, path in self.ranges:
            if low <= address < high and path.is_file():
                if path not in self.files:
                    self.files[path] = path.read_bytes()
                start = address - low + offset
                return self.files[path][start : start + size]
        return b""
