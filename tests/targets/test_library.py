"""What the shared library asks of the machine it is loaded on, and what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.api import compile
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from tests.passes.helpers import Draft
from tests.targets import elf
from tests.targets.conftest import LINUX, Compile
from tests.targets.layers.integers import pointwise_residual

TARGETS = ("host", "rpi4", "rpi-armv7")
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-aarch64.so.1", "ld-linux-armhf.so.3"}
"""The C library's own parts; the loader itself is the last of them where it holds the thread-local storage."""

WITHOUT_MEMORY = set(
    "pthread_atfork __register_atfork pthread_cond_broadcast pthread_cond_wait pthread_create pthread_detach "
    "pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock sched_yield sched_getaffinity __sched_cpucount "
    "memcpy memmove memset "
    "acosf acoshf asinf asinhf atanf atanhf ceilf cosf coshf erff expf exp2f floorf fmaf fmodf log1pf log2f logf "
    "nearbyintf powf rintf roundf sinf sinhf sqrtf tanf tanhf truncf".split()
)
"""Functions of the C library that allocate nothing; pthread_create is reached once, when the pool grows."""


@pytest.fixture(params=TARGETS)
def library(request: pytest.FixtureRequest, compiled: Compile) -> elf.Elf:
    return elf.Elf(compiled(request.param).library)


def test_it_needs_the_c_library_alone(library: elf.Elf) -> None:
    assert set(library.texts(elf.DT_NEEDED)) <= LIBRARIES
    assert library.texts(elf.DT_SONAME) == ["libtiny.so"]
    assert not library.has(elf.DT_RPATH) and not library.has(elf.DT_RUNPATH)


def test_it_shows_its_four_functions(library: elf.Elf) -> None:
    assert library.exports == {"tiny_run", "tiny_error_string", "tiny_description", "tiny_abi_version"}


def test_what_it_calls_allocates_nothing(library: elf.Elf) -> None:
    assert library.imports <= WITHOUT_MEMORY
    assert "pthread_create" in library.imports


def test_code_is_read_only_and_data_is_not_code(library: elf.Elf) -> None:
    assert not library.has(elf.DT_TEXTREL)
    for segment in library.segments:
        if segment.kind in (elf.PT_LOAD, elf.PT_GNU_STACK):
            assert segment.flags & (elf.WRITE | elf.EXECUTE) != elf.WRITE | elf.EXECUTE
    assert any(segment.kind == elf.PT_GNU_STACK for segment in library.segments)


REFUSES = """
#define _GNU_SOURCE
#include <errno.h>
long syscall(long number, ...) { (void)number; errno = EPERM; return -1; }
"""


@pytest.mark.skipif(not load_target("host").uses_amx, reason="this machine has no AMX")
@pytest.mark.parametrize("refused", [False, True])
def test_it_tells_when_it_may_not_use_amx(tmp_path: Path, refused: bool) -> None:
    draft = Draft()
    draft.graph.add_output(pointwise_residual(draft), "y")
    bundle = compile(draft.graph, out=tmp_path / "bundle")
    (tmp_path / "refuses.c").write_text(REFUSES)
    refuses = tmp_path / "refuses.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", refuses, tmp_path / "refuses.c"], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "graphopt", "run", str(bundle.path), "--random"],
        env={**os.environ, **({"LD_PRELOAD": str(refuses)} if refused else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == refused
    assert ("does not let this process use the processor's AMX registers" in done.stderr) == refused


@pytest.mark.parametrize("name", LINUX)
def test_it_is_for_the_machine_and_the_c_library_that_the_target_names(compiled: Compile, name: str) -> None:
    target = load_target(name)
    library = elf.Elf(compiled(name).library)
    assert library.machine == target.triple.split("-")[0].replace("armv7", "arm")
    floor = tuple(map(int, target.glibc.split(".")))
    assert floor == ((2, 28) if target.family == "x86" else (2, 31))
    assert (2, 0) <= library.glibc <= floor


def test_weights_are_read_only(compiled: Compile) -> None:
    bundle = compiled("host")
    data = [s for s in elf.Elf(bundle.library).sections if s.kind == elf.SHT_PROGBITS]
    constant = sum(s.size for s in data if not s.flags & (elf.SHF_WRITE | elf.SHF_EXECUTE))
    assert constant >= bundle.manifest["weights_bytes"] > 1000
    assert sum(s.size for s in data if s.flags & elf.SHF_WRITE) < 1000


def test_it_may_be_closed_while_its_threads_live(bundle: Bundle) -> None:
    """The pool's threads run the library's code: it stays in memory."""
    code = (
        "import _ctypes, pathlib, sys\n"
        "import numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tiny import Model\n"
        "model = Model(threads=3)\n"
        "arrays = [np.ones(t.shape, t.dtype) for t in model.inputs]\n"
        "before = model.run(*arrays)\n"
        "_ctypes.dlclose(model._library._handle)\n"
        "assert 'libtiny.so' in pathlib.Path('/proc/self/maps').read_text()\n"
        "again = Model(threads=3).run(*arrays)\n"
        "assert all(np.array_equal(before[name], again[name]) for name in before)\n"
    )
    subprocess.run([sys.executable, "-B", "-c", code, str(bundle.path)], check=True, timeout=60)
