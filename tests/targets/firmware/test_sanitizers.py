"""The C of firmware under gcc's sanitizers in 32 bits: the self-test reads and writes nothing beside its arrays.

Weights, samples and outputs are arrays of their own; the arena has as many bytes as the header tells, from the heap.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from graphopt.targets.bundle import Bundle
from tests.targets.firmware.conftest import in_zoo

CALLER = """\
#include <stdio.h>
#include <stdlib.h>
#include "net.h"

int main(void) {
    unsigned char *const arena = aligned_alloc(NET_ARENA_ALIGNMENT, NET_ARENA_BYTES);
    if (!arena) return 90;
    for (int n = 0; n < 2; n++) {
        const int wrong = net_selftest(arena, NET_ARENA_BYTES);
        if (wrong) return wrong;
    }
    free(arena);
    return 0;
}
"""
FLAGS = "-m32 -std=c11 -O0 -msse2 -mfpmath=sse -fsanitize=address,undefined -fno-sanitize-recover=all".split()
SOURCES = ("net.c", "net_kernels.c", "net_weights.c", "net_selftest.c")
KEYWORDS = "mlperf_kws_int8_qdq_op13.onnx"
IN_ZOO = [pytest.mark.zoo, pytest.mark.slow, in_zoo(KEYWORDS)]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A gcc that links programs of 32 bits with both sanitizers."""
    found = shutil.which("gcc")
    if found is None or platform.machine() != "x86_64":
        pytest.skip("gcc for x86 is not installed (Debian: apt-get install gcc gcc-multilib)")
    folder = tmp_path_factory.mktemp("gcc")
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    done = subprocess.run([found, *FLAGS, "main.c", "-lm"], cwd=folder, capture_output=True)
    if done.returncode:
        pytest.skip("gcc has no libraries for 32 bits (Debian: apt-get install gcc-multilib)")
    return found


def run(compiler: str, bundle: Bundle, folder: Path) -> subprocess.CompletedProcess[str]:
    """The program, built and run; the sources are in the folder already."""
    (folder / "caller.c").write_text(CALLER)
    command = [compiler, *FLAGS, "caller.c", *SOURCES, "-lm", "-o", "caller"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    return subprocess.run(["./caller"], cwd=folder, capture_output=True, text=True)


def copied(bundle: Bundle, folder: Path) -> Path:
    for name in bundle.manifest["files"]:
        shutil.copy(bundle.path / name, folder)
    return folder


@pytest.mark.parametrize(
    ("model", "core"),
    [
        ("digits", "cortex-m3"),
        ("digits_int8", "cortex-m3"),
        ("digits_int8", "cortex-m55"),
        ("digits_int4", "cortex-m3"),
        ("digits_int4", "cortex-m4f"),
        ("digits_int4", "cortex-m55"),
        pytest.param("keywords", "cortex-m4f", marks=IN_ZOO),
        pytest.param("keywords", "cortex-m55", marks=IN_ZOO),
    ],
)
def test_it_stays_within_its_arrays(
    request: pytest.FixtureRequest, model: str, core: str, compiler: str, tmp_path: Path
) -> None:
    """What Helium and the DSP extension compute is C here."""
    bundle = request.getfixturevalue(model)(core)
    ran = run(compiler, bundle, copied(bundle, tmp_path))
    assert ran.returncode == 0, ran.stderr[:2000]


def test_a_read_behind_the_arena_is_seen(
    request: pytest.FixtureRequest, compiler: str, tmp_path: Path
) -> None:
    """The header tells sixteen bytes too few."""
    bundle = request.getfixturevalue("digits_int8")("cortex-m3")
    header = copied(bundle, tmp_path) / "net.h"
    size = bundle.abi.workspace_bytes
    header.write_text(header.read_text().replace(f"ARENA_BYTES {size}\n", f"ARENA_BYTES {size - 16}\n"))
    ran = run(compiler, bundle, tmp_path)
    assert ran.returncode != 0 and "heap-buffer-overflow" in ran.stderr
