"""Runners: where a program of candidates runs, and what is measured of them.

A runner has a name, under which results are kept, and a unit; costs in different units are never compared.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from graphopt.errors import ToolchainError, UsageError
from graphopt.targets.device import Target
from graphopt.targets.instruction_counts import build_plugin, no_plugins, options, read_counts
from graphopt.targets.tuning.program import PROGRAM
from graphopt.targets.tuning.record import FAILED, LATE, OK

SECONDS = 0.2
"""How long samples of one candidate may be taken when they do not agree earlier."""


@dataclass(frozen=True)
class Measured:
    """What came of one candidate: a status of `record`, costs where it is "ok", else the reason."""

    status: str
    cost: float = float("inf")
    median: float = float("inf")
    reason: str = ""


class Runner(Protocol):
    """Measures one candidate of a program that `link_program` made; leaves its results in the folder."""

    @property
    def name(self) -> str:
        """What its results are kept under."""

    @property
    def unit(self) -> str:
        """Of costs: "s", or "instructions"."""

    def measure(self, folder: Path, number: int, threads: int, limit: float) -> Measured:
        """Run candidate `number`, which has `limit` seconds for it."""


@dataclass(frozen=True)
class LocalRunner:
    """This machine, in a process of its own that is pinned to as many cores as it has threads."""

    name: str = "local"
    unit: str = "s"

    def measure(self, folder: Path, number: int, threads: int, limit: float) -> Measured:
        return timed(run_limited([f"./{PROGRAM}", str(number), str(threads), str(SECONDS)], folder, limit))


class CountingRunner:
    """QEMU's user emulation: exact counts of guest instructions on one thread. A count is not a time."""

    name = "qemu"
    unit = "instructions"

    def __init__(self, target: Target) -> None:
        if shutil.which(target.emulator) is None:
            raise ToolchainError(
                f"{target.emulator} is not installed", hint="Debian: apt-get install qemu-user"
            )
        reason = no_plugins(target)
        if reason:
            raise ToolchainError(reason)
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="graphopt-")
        self._plugin = build_plugin(Path(self._folder.name), target)

    def measure(self, folder: Path, number: int, threads: int, limit: float) -> Measured:
        totals = []
        for runs in (1, 2):
            counts = folder / f"counts.{number}"
            command = [self._target.emulator, "-cpu", self._target.emulator_cpu]
            command += [*options(self._plugin, counts), f"./{PROGRAM}", str(number), "1", f"-{runs}"]
            ended = run_limited(command, folder, limit)
            if ended.status != OK:
                return Measured(ended.status, reason=ended.text)
            totals.append(sum(each * times for _, _, each, times in read_counts(counts)))
        count = float(totals[1] - totals[0])
        return Measured(OK, count, count)


@dataclass(frozen=True)
class Ended:
    """How a process ended: a status, and what it printed or else why it failed."""

    status: str
    text: str


def run_limited(command: Sequence[str], folder: Path, limit: float) -> Ended:
    """Run a command and all it starts, for `limit` seconds at most."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return Ended(LATE, f"it did not end within {limit:g} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        said = (err or out).strip().splitlines()[-1:]
        return Ended(FAILED, said[0] if said else f"it ended with {process.returncode}")
    return Ended(OK, out)


def timed(ended: Ended) -> Measured:
    """What the measuring program printed."""
    if ended.status != OK:
        return Measured(ended.status, reason=ended.text)
    try:
        told = json.loads(ended.text)
        return Measured(OK, float(told["minimum"]), float(told["median"]))
    except (ValueError, KeyError, TypeError):
        return Measured(FAILED, reason=f"it printed no times: {ended.text[:80]!r}")


def runner_of(text: str | None, target: Target) -> Runner:
    """The runner that an option names; by default this machine, or else the target's emulator. Raises UsageError."""
    chosen = text or ("local" if target.is_native else "qemu")
    if target.is_firmware:
        raise UsageError(
            "kernels of firmware cannot be tuned yet",
            where=f"target {target.name}",
            hint="name a Linux target",
        )
    if chosen == "local":
        if not target.is_native:
            raise UsageError(
                f"programs for {target.name} do not run on this machine",
                where="--runner local",
                hint="--runner qemu counts instructions",
            )
        return LocalRunner()
    if chosen == "qemu":
        if target.is_native or not target.emulator:
            raise UsageError(f"no emulator runs {target.name}", where="--runner qemu", hint="--runner local")
        return CountingRunner(target)
    raise UsageError(f"there is no runner '{chosen}'", where="--runner", hint="local or qemu")
