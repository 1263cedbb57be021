"""The library keeps what its header promises: a C program (contract.c) tries it, on every kind of machine.

Error codes, thread counts, callers at the same time, forks, memory beyond its own, allocation.
"""

from __future__ import annotations

from pathlib import Path

import pytest

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
