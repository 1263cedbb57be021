"""From a firmware bundle's sources to a program for a board, and what it takes of flash and RAM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from graphopt.errors import ToolchainError, UnsupportedError
from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.bundle_files import render
from graphopt.targets.device import Target, load_target
from graphopt.targets.firmware import board as board_files
from graphopt.targets.firmware.arenas import definitions, given, input_call, output_call
from graphopt.targets.firmware.interface import parameter_names, passed
from graphopt.targets.memory_map import Region

C_FLAGS = ("-std=gnu11", "-O2", "-ffunction-sections", "-fdata-sections")
MODEL_FLAGS = ("-std=c99", "-O2", "-ffunction-sections", "-fdata-sections", "-fstack-usage")
LAST_LINES = 3
"""Lines of a failing compiler's output that the error quotes."""


def board_of(target: Target) -> Target:
    """The board that firmware for the target is emulated on."""
    return load_target(target.emulator_board) if target.emulator_board else load_target(target.name)


def runner_text(abi: ModelAbi, *, selftest: bool) -> str:
    """The C program that feeds the model from files."""
    inputs, outputs = parameter_names(abi)
    reads, writes = (
        "\n".join(
            f"        if (semihosting_{way}({file}, {name}, {spec.nbytes}u)) return SHORT_FILE;"
            for name, spec in zip(names, specs, strict=True)
            if spec.nbytes
        )
        for way, file, names, specs in (
            ("read", "in", inputs, abi.inputs),
            ("write", "out", outputs, abi.outputs),
        )
    )
    arguments = [*(name for side in passed(abi) for name, _ in side), *given(abi)]
    facts = {
        "MODEL": abi.name,
        "MACRO": abi.macro,
        "BUFFERS": "\n".join(
            f"static {c_type(spec)} {name}[{max(spec.elements, 1)}];"
            for side in passed(abi)
            for name, spec in side
        ),
        "ARENAS": "\n".join(definitions(abi, spare=1)),
        "POINTERS": "" if abi.passes_tensors else "\n".join(_pointers(abi)),
        "SELFTEST": f"{abi.name}_selftest({', '.join(given(abi))})" if selftest else "0",
        "RUN": f"{abi.name}_run({', '.join(arguments)})",
        "READS": reads,
        "WRITES": writes,
    }
    return render("firmware_runner.c.in", facts)


def _pointers(abi: ModelAbi) -> list[str]:
    """Variables for the places of inputs and outputs in the arena."""
    inputs, outputs = parameter_names(abi)
    return [
        *(
            f"    {c_type(spec)} *const {name} = {input_call(abi, number)};"
            for number, (name, spec) in enumerate(zip(inputs, abi.inputs, strict=True))
        ),
        *(
            f"    const {c_type(spec)} *const {name} = {output_call(abi, number)};"
            for number, (name, spec) in enumerate(zip(outputs, abi.outputs, strict=True))
        ),
    ]


def linker_script(board: Target) -> str:
    """Code in the board's first flash region, data and stack in its largest of RAM."""
    flash = next(region for region in board.regions if region.kind == "flash")
    ram = max((region for region in board.regions if region.kind == "ram"), key=lambda r: r.bytes)
    return render(
        "firmware_link.ld.in",
        {
            "BOARD": board.name,
            "FLASH": flash.name,
            "RAM": ram.name,
            **_place("FLASH", flash),
            **_place("RAM", ram),
            "ENTRY": "board_start" if board.family == "riscv" else "start",
        },
    )


def _place(name: str, region: Region) -> dict[str, str]:
    return {f"{name}_START": f"{region.start:#010x}", f"{name}_BYTES": str(region.bytes)}


def build(folder: Path, abi: ModelAbi, target: Target, *, weights: str = "S") -> Path:
    """Build the bundle's sources, which are in `folder`, into a program that runs the samples of `in.bin`.

    `weights` is the kind of file that they are taken from, "S" or "c". Raises ToolchainError where the compiler fails,
    UnsupportedError where the program does not fit the board.
    """
    board_files.copy_to(folder, target.family)
    (folder / "runner.c").write_text(runner_text(abi, selftest=False))
    (folder / "link.ld").write_text(linker_script(board_of(target)))
    sources = [*_sources(abi, target, weights), "runner.c"]
    for source in sources:
        _compile(source, target, folder)
    return _link(sources, "program", target, folder)


def build_selftest(folder: Path, abi: ModelAbi, target: Target, *, weights: str = "S") -> Path:
    """Where `build` was, a program that runs the self-test and then as many samples; raises what that raises."""
    own = [f"{abi.name}_selftest.c", "runner_selftest.c"]
    (folder / own[1]).write_text(runner_text(abi, selftest=True))
    for source in own:
        _compile(source, target, folder)
    return _link([*_sources(abi, target, weights), *own], "selftest", target, folder)


def _sources(abi: ModelAbi, target: Target, weights: str) -> list[str]:
    own = [f"{abi.name}.c", f"{abi.name}_kernels.c", f"{abi.name}_weights.{weights}"]
    return [*own, board_files.SOURCES[target.family][0]]


def _compile(source: str, target: Target, folder: Path) -> None:
    """With the flags of the user's build, or with those of programs around it."""
    around = source.startswith("runner") or source in board_files.SOURCES[target.family]
    flags = C_FLAGS if around else () if source.endswith(".S") else MODEL_FLAGS
    compile_c(target, [*flags, "-c", source, "-o", f"{source}.o"], folder)


def _link(sources: Sequence[str], name: str, target: Target, folder: Path) -> Path:
    link = [
        "-nostartfiles",
        "-T",
        "link.ld",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        f"-Wl,-Map={name}.map",
    ]
    objects = [f"{source}.o" for source in sources]
    compile_c(target, [*link, *objects, "-lm", "-o", f"{name}.elf"], folder)
    return folder / f"{name}.elf"


def compile_c(target: Target, arguments: Sequence[str], folder: Path) -> None:
    """Run the target's compiler in `folder`. Raises ToolchainError or UnsupportedError, see `build`."""
    command = [f"{target.gcc}gcc", *target.gcc_flags, *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise ToolchainError(f"cannot run {command[0]}: {error.strerror}", hint="install it") from None
    if not done.returncode:
        return
    if "will not fit in region" in done.stderr or "overflowed by" in done.stderr:
        board = board_of(target)
        overflows = [line.split("ld: ")[-1] for line in done.stderr.splitlines() if "overflowed by" in line]
        raise UnsupportedError(
            f"the program does not fit {board.name}: {'; '.join(overflows)}", hint="quantise the model"
        )
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    raise ToolchainError(f"{command[0]} ... failed: {' | '.join(lines[-LAST_LINES:])}")
