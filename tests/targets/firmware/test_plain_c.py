"""C99 and nothing else: what is left of branches, and bundles for cores with extensions, by strict compilers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import graphopt
from graphopt.errors import UnsupportedError, UsageError
from graphopt.onnx_io.write import write_model
from graphopt.targets.bundle import Bundle
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.firmware.plain_c import BEYOND_C99, plain
from graphopt.verification import random_sample
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import DIGITS, STRICT, Firmware, clang, zoo

STRICTER = [*STRICT, "-Wcast-qual", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wundef"]
SOURCES = ("net.c", "net_kernels.c", "net_weights.c", "net_selftest.c")
ON_CORES = [pytest.param(core, marks=runnable(core)) for core in ("cortex-m4f", "cortex-m55")]

BRANCHES = """\
#ifndef GUARD
#define GUARD
#if defined(__GNUC__) /* a compiler */
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#define DSP
#endif
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define VECTORS 1
#elif !defined(__ARM_FEATURE_MVE)
#define VECTORS 0
#else
#define VECTORS 2
#endif
#ifdef DSP
asm
#else
one
#ifdef __cplusplus
kept
#endif
#endif
#ifndef DSP
two
#endif
#if VECTORS
vectors
#else
three
#endif
#if VECTORS && 1 == 1
vectors
#endif
#if VECTORS == 0
four
#endif
#endif
"""
LEFT = """\
#ifndef GUARD
#define GUARD
#define INLINE static inline
#define VECTORS 0
one
#ifdef __cplusplus
kept
#endif
two
three
four
#endif
"""


def test_branches_for_extensions_are_left_out() -> None:
    assert plain(BRANCHES) == LEFT and plain(LEFT) == LEFT


def test_what_every_compiler_would_see_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="the C of a kernel has __asm__"):
        plain('__asm__("nop");')
    with pytest.raises(UnsupportedError, match="cannot be decided"):
        plain("#if __GNUC__ > 4\n#endif\n")


@pytest.fixture(scope="module")
def quantised(digits_int8: Firmware, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit classifier in int8; layers of the residual network too where the zoo is."""
    model = zoo("mlperf_resnet8_int8_qdq_op13.onnx")
    if model.is_file():
        return model
    path = tmp_path_factory.mktemp("model") / "digits_int8.onnx"
    optimised = digits_int8("cortex-m3").optimized
    assert optimised is not None
    write_model(graphopt.load(optimised), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("core", ON_CORES)
def test_cores_with_extensions_have_plain_sources(quantised: Path, core: str, tmp_path: Path) -> None:
    """No assembly, no file for an assembler, no warning; the self-test passes by plain C on the board."""
    bundle = graphopt.compile(quantised, target=core, out=tmp_path / "fw", name="net", c_only=True)
    assert not [name for name in bundle.manifest["files"] if name.endswith((".S", ".s", ".o", ".bin"))]
    check_is_c99(bundle, tmp_path)
    EmulatedFirmware(bundle, selftest=True)(random_sample(bundle.abi.inputs, 0))
    done = subprocess.run(["make"], cwd=bundle.path, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def check_is_c99(bundle: Bundle, folder: Path) -> None:
    """By two compilers, for its own core and for one that they know nothing of."""
    headers = str(Path(__file__).parent / "headers")
    for name in SOURCES:
        text = (bundle.path / name).read_text()
        assert not BEYOND_C99.search(text) and set(re.findall(r"#include (\S+)", text)) <= {
            "<math.h>", "<string.h>", '"net.h"', '"net_internal.h"',
        }  # fmt: skip
        output = str(folder / "out.o")
        command = [
            f"{bundle.target.gcc}gcc",
            *bundle.target.gcc_flags,
            *STRICTER,
            "-O2",
            "-c",
            name,
            "-o",
            output,
        ]
        done = subprocess.run(command, cwd=bundle.path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
        bare = ["-ffreestanding", "-I", headers, "-O1", "-c", name, "-o", output]
        done = clang(bundle.path, *STRICTER, *bare, target="riscv32-freestanding-none")
        assert done.returncode == 0, done.stderr[:2000]


def test_it_is_for_firmware(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="c_only is for firmware"):
        graphopt.compile(DIGITS, out=tmp_path / "library", c_only=True)
    assert not list(tmp_path.iterdir())
