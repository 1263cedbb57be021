"""The thread pool: every task once, whoever calls, however many threads; clean under the thread sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from graphopt.targets import c_runtime

SOURCE = Path(__file__).with_name("parallel_stress.c")


ZIG = (sys.executable, "-m", "ziglang", "cc")


def built(folder: Path, compiler: Sequence[str], *flags: str) -> subprocess.CompletedProcess[str]:
    """Compile the program as `stress`."""
    c_runtime.copy_to(folder)
    (folder / SOURCE.name).write_bytes(SOURCE.read_bytes())
    command = [
        *compiler,
        "-std=gnu11",
        "-O2",
        "-g",
        *flags,
        "-o",
        "stress",
        SOURCE.name,
        "parallel.c",
        "-lpthread",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    done = built(folder, ZIG)
    assert done.returncode == 0, done.stderr
    return folder / "stress"


@pytest.mark.parametrize("callers", [1, 3])
def test_every_task_is_done_once(stress: Path, callers: int) -> None:
    done = subprocess.run([stress, str(callers), "3000"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_data_races(tmp_path: Path) -> None:
    """By the system's compiler: zig would first build the sanitizer for minutes."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None or built(tmp_path, [compiler], "-fsanitize=thread").returncode:
        pytest.skip("no compiler here has the thread sanitizer (Debian: apt-get install gcc)")
    environment = {**os.environ, "TSAN_OPTIONS": "die_after_fork=0"}
    command = [tmp_path / "stress", "2", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer cannot run on this kernel")
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
