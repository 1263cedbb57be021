"""A firmware bundle, built and run on a board under QEMU."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from graphopt.errors import ToolchainError, UsageError
from graphopt.runtime.arguments import fitting
from graphopt.runtime.manifest import ModuleInfo, module_info
from graphopt.targets import emulator
from graphopt.targets.bundle import Bundle
from graphopt.targets.firmware.build import board_of, build, build_selftest
from graphopt.targets.firmware.measured import Measured, instructions_of, kernels_of, sections_of
from graphopt.targets.instruction_counts import build_plugin, no_plugins, options

TIMEOUT = 600
WORD = 4
COUNTS = "counts.txt"
LONGEST_MESSAGE = 120
"""Characters of what QEMU says that an error quotes."""

SELFTEST = 100
"""What the number of a layer that is wrong is added to."""

EXITS = {
    90: "QEMU could not open a file",
    91: "a file of samples is too short",
    99: "the program met a fault of the processor",
}


class EmulatedFirmware:
    """Like `graphopt.Module`, for firmware; each run is one of a program that is built once.

    With `count` instructions are counted; with `selftest` a second program runs the self-test before the first samples.
    `weights` is the kind of file they are taken from, "S" or "c"; unless given "S" where the bundle has it. Raises
    ToolchainError when the compiler or the emulator is missing.
    """

    def __init__(
        self, bundle: Bundle, *, count: bool = False, selftest: bool = False, weights: str | None = None
    ) -> None:
        target = bundle.target
        reason = emulator.missing(target) or (no_plugins(target) if count else None)
        if reason:
            raise ToolchainError(reason)
        self._target = target
        self._info = module_info(bundle.manifest)
        self._folder = tempfile.TemporaryDirectory(prefix="graphopt-")
        self._path = Path(self._folder.name)
        for name in bundle.manifest["files"]:
            shutil.copy(bundle.path / name, self._path)
        kinds = [kind for kind in ("S", "c") if f"{bundle.name}_weights.{kind}" in bundle.manifest["files"]]
        weights = weights or kinds[0]
        self.program = build(self._path, bundle.abi, target, weights=weights)
        self._selftest = build_selftest(self._path, bundle.abi, target, weights=weights) if selftest else None
        self._plugin = build_plugin(self._path, target) if count else None
        self._kernels = kernels_of(self.program, target, self._info.name)
        self.measured = Measured(sections_of(self.program, target))

    @property
    def info(self) -> ModuleInfo:
        return self._info

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises UsageError for inputs that do not fit, ToolchainError for a failed run."""
        return self.run([inputs])[0]

    def run(self, samples: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Outputs of every sample; `measured` tells what the runs took."""
        if self._selftest is not None:
            self._check_itself(self._selftest)
            self._selftest = None
        given = [fitting(sample, self._info.shapes)[1] for sample in samples]
        data = b"".join(array.tobytes() for arrays in given for array in arrays)
        (self._path / "in.bin").write_bytes(len(samples).to_bytes(WORD, "little") + data)
        counts = self._path / COUNTS
        self._emulate(
            self.program, options(self._plugin, counts, list(self._kernels)) if self._plugin else []
        )
        made = (self._path / "out.bin").read_bytes()
        outputs, place = [], 0
        for _ in samples:
            arrays = {}
            for spec in self._info.outputs:
                array = np.frombuffer(made, spec.dtype.numpy, spec.elements, place)
                arrays[spec.name] = array.reshape(spec.shape).copy()
                place += spec.nbytes
            outputs.append(arrays)
        stack = int.from_bytes(made[place : place + WORD], "little")
        counted = self._counted(len(samples)) if self._plugin else {}
        self.measured = replace(self.measured, stack_bytes=stack, instructions=counted)
        return outputs

    def set_num_threads(self, count: int) -> None:
        """Raises UsageError: there are none."""
        raise UsageError("firmware has no threads", hint="leave the number of threads out")

    def _counted(self, runs: int) -> dict[str, int]:
        return instructions_of(self.program, self._target, self._path / COUNTS, runs, self._kernels)

    def _check_itself(self, program: Path) -> None:
        """Run the self-test, without samples. Raises ToolchainError naming what is not as it should be."""
        (self._path / "in.bin").write_bytes(bytes(WORD))
        self._emulate(program, [])

    def _emulate(self, program: Path, more: Sequence[str]) -> None:
        target, board = self._target, board_of(self._target)
        command = [target.emulator, "-M", board.emulator_machine, "-nographic", "-monitor", "none"]
        command += [
            "-serial",
            "none",
            "-semihosting-config",
            "enable=on,target=native",
            "-kernel",
            program.name,
        ]
        if board.family == "riscv":
            command += ["-cpu", "rv32", "-bios", "none"]
        command += more
        try:
            done = subprocess.run(
                command, cwd=self._path, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise ToolchainError(f"the program did not end within {TIMEOUT} s on {board.name}") from None
        if done.returncode:
            first = done.stderr.strip().split("\n")[0][:LONGEST_MESSAGE]
            said = _told(done.returncode) or first or "no message"
            raise ToolchainError(f"the program on {board.name} exited with {done.returncode}: {said}")


def _told(code: int) -> str | None:
    """What an exit code of `firmware_runner.c.in` means."""
    if code > SELFTEST:
        return f"the self-test finds layer {code - SELFTEST} of memory.md wrong, or an output where there are fewer"
    return EXITS.get(code)
