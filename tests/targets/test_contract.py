"""The library keeps what its header promises: a C program (contract.c) tries it, on every kind of machine.

Error codes, thread counts, callers at the same time, forks, memory beyond its own, allocation.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphopt
from graphopt.targets import emulator
from graphopt.targets.toolchain import Toolchain
from tests.targets.conftest import Compile, runnable

PROGRAM = Path(__file__).with_name("contract.c")


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=runnable(name)) for name in ("host", "rpi4", "rpi-armv7")]
)
def test_the_contract_is_kept(compiled: Compile, target: str, tmp_path: Path) -> None:
    bundle = compiled(target)
    for file in (PROGRAM, bundle.header, bundle.library):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sources = [tmp_path / name for name in (PROGRAM.name, bundle.library.name)]
    Toolchain().link_executable(sources, tmp_path / "contract", bundle.target)
    threads = "3" if bundle.target.is_native else "1"
    done = emulator.run(bundle.target, ["./contract", threads], folder=tmp_path, seconds=120)
    assert done.stdout == "kept\n"


ON_ONE_PROCESSOR = """
import os, sys
import numpy as np
import graphopt

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
module = graphopt.Module(sys.argv[1])
inputs = {spec.name: np.zeros(spec.shape, np.float32) for spec in module.info.inputs}
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
module(inputs)
print(threads() - before)
module.set_num_threads(3)
module(inputs)
print(threads() - before)
"""


def test_a_run_that_asks_for_no_number_takes_no_more_threads_than_processors(
    tiny_model: Path, tmp_path: Path
) -> None:
    bundle = graphopt.compile(tiny_model, threads=4, out=tmp_path / "four.bundle")
    command = [sys.executable, "-c", ON_ONE_PROCESSOR, str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["0", "2"]
