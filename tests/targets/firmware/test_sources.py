"""The sources of a firmware bundle: strict C99 for any compiler, the checks of the entry function, equal bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.verification import random_sample
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import DIGITS, STRICT, Firmware, clang, in_zoo, zoo

KEYWORDS = "mlperf_kws_int8_qdq_op13.onnx"
QUANTISED = pytest.param("keywords", marks=[pytest.mark.zoo, pytest.mark.slow, in_zoo(KEYWORDS)])
SOURCES = ("net.c", "net_kernels.c", "net_weights.c", "net_selftest.c")

STACK_OF_CALL = 64
"""Bytes of the caller's own that are painted over: the arguments of a run, and its return address."""

KEEPING_CALLER = """\
#include <stdio.h>
#include <string.h>
#include "net.h"

static unsigned char arena[NET_ARENA_BYTES + 17] NET_ALIGNED, before[sizeof arena];
static NET_INPUT_0_TYPE in[NET_INPUT_0_ELEMENTS];
static NET_OUTPUT_0_TYPE out[NET_OUTPUT_0_ELEMENTS + 1], made[NET_OUTPUT_0_ELEMENTS + 1];

static int untouched(void) { return !memcmp(arena, before, sizeof arena) && !memcmp(out, made, sizeof out); }

int main(void) {
    memset(arena, 0x5A, sizeof arena);
    memset(out, 0x5A, sizeof out);
    memcpy(before, arena, sizeof arena);
    memcpy(made, out, sizeof out);
    printf("%d ", net_run(NULL, out, arena, sizeof arena));
    printf("%d ", net_run(in, NULL, arena, sizeof arena));
    printf("%d ", net_run(in, out, NULL, sizeof arena));
    printf("%d ", net_run(in, out, arena, NET_ARENA_BYTES - 1));
    printf("%d ", net_run(in, out, arena + 1, NET_ARENA_BYTES));
    printf("%d ", net_run((const NET_INPUT_0_TYPE *)(const void *)((const char *)in + 1), out, arena, sizeof arena));
    printf("%d ", untouched());
    printf("%d ", net_run(in, out, arena, NET_ARENA_BYTES));
    printf("%d %d ", out[NET_OUTPUT_0_ELEMENTS] == made[NET_OUTPUT_0_ELEMENTS], arena[NET_ARENA_BYTES] == 0x5A);
    printf("%d", net_selftest(arena, sizeof arena));
    return 0;
}
"""


CALLER = """\
#include <stdio.h>
#include <string.h>
#include "net.h"

static unsigned char arena[NET_ARENA_BYTES + 17] NET_ALIGNED, before[sizeof arena];

int main(void) {
    memset(arena, 0x5A, sizeof arena);
    memcpy(before, arena, sizeof arena);
    printf("%d ", net_run(NULL, sizeof arena));
    printf("%d ", net_run(arena, NET_ARENA_BYTES - 1));
    printf("%d ", net_run(arena + 1, NET_ARENA_BYTES));
    printf("%d %d ", net_selftest(NULL, sizeof arena), net_selftest(arena, NET_ARENA_BYTES - 1));
    printf("%d ", net_selftest(arena + 1, NET_ARENA_BYTES));
    printf("%d ", !memcmp(arena, before, sizeof arena));
    memset(net_input_0(arena), 0, NET_INPUT_0_BYTES);
    printf("%d ", net_run(arena, NET_ARENA_BYTES));
    printf("%d ", (const void *)net_output_0(arena) == (const void *)(arena + NET_OUTPUT_0_OFFSET));
    printf("%d ", arena[NET_ARENA_BYTES] == 0x5A);
    printf("%d", net_selftest(arena, NET_ARENA_BYTES));
    return 0;
}
"""


@pytest.fixture(params=["digits", "blocks", QUANTISED])
def sources(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bundle, Path]:
    """The bundle of a float model or of quantised ones, copied."""
    bundle = request.getfixturevalue(request.param)("cortex-m3")
    for name in bundle.manifest["files"]:
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    return bundle, tmp_path


@pytest.mark.parametrize("core", [pytest.param("cortex-m3", marks=runnable("cortex-m3"))])
def test_gcc_has_no_warning(sources: tuple[Bundle, Path], core: str) -> None:
    target = load_target(core)
    for source in SOURCES:
        command = [f"{target.gcc}gcc", *target.gcc_flags, *STRICT, "-O2", "-c", source]
        done = subprocess.run(command, cwd=sources[1], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("target", ["thumb-freestanding-eabi", "riscv32-freestanding-none"])
def test_clang_has_no_warning(sources: tuple[Bundle, Path], target: str) -> None:
    bare = ["-ffreestanding", "-I", str(Path(__file__).parent / "headers")]
    for source in SOURCES:
        done = clang(sources[1], *STRICT, *bare, "-O1", "-c", source, target=target)
        assert done.returncode == 0, done.stderr[:2000]


def called(folder: Path, caller: str) -> list[str]:
    """What a program prints that calls the model on this machine, in 32 bits under the sanitizer."""
    (folder / "caller.c").write_text(caller)
    flags = ["-O1", "-msse2", "-mfpmath=sse", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-static"]
    done = clang(folder, *flags, "-std=c99", "caller.c", *SOURCES, "-lm", "-o", "caller")
    assert done.returncode == 0, done.stderr[:2000]
    ran = subprocess.run(["./caller"], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_nothing_undefined_happens_in_32_bits(sources: tuple[Bundle, Path]) -> None:
    """Errors are told and nothing is written then; the sample is right, twice in one arena."""
    told = called(sources[1], CALLER)
    assert told == ["1", "2", "3", "-1", "-2", "-3", "1", "0", "1", "1", "0"]


def test_inputs_may_be_the_callers(tmp_path: Path) -> None:
    """They stay as they are, and their pointers are checked too."""
    bundle = graphopt.compile(DIGITS, target="cortex-m3", out=tmp_path / "fw", name="net", keep_inputs=True)
    assert bundle.abi.passes_tensors and "net_input_0(" not in bundle.header.read_text()
    told = called(bundle.path, KEEPING_CALLER)
    assert told == ["1", "1", "1", "2", "3", "3", "1", "0", "1", "1", "0"]
    with pytest.raises(UsageError, match="keep_inputs is for firmware"):
        graphopt.compile(DIGITS, out=tmp_path / "library", keep_inputs=True)


@pytest.mark.parametrize("core", [pytest.param("rv32imac", marks=runnable("rv32imac"))])
@pytest.mark.parametrize("weights", ["S", "c"])
def test_make_builds_the_library(digits: Firmware, core: str, weights: str, tmp_path: Path) -> None:
    bundle = digits(core)
    for name in bundle.manifest["files"]:
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    done = subprocess.run(["make", f"WEIGHTS={weights}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    told = subprocess.run(
        ["riscv64-unknown-elf-nm", "libnet.a"], cwd=tmp_path, capture_output=True, text=True
    )
    assert " T net_run" in told.stdout and " T net_selftest" in told.stdout
    assert not {line.split()[1] for line in told.stdout.splitlines() if len(line.split()) == 3} & set("DdCG")


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_memory_is_told(digits: Firmware, core: str) -> None:
    """The same numbers as the linked program has; the stack that a run takes is no deeper than the bound."""
    bundle = digits(core)
    told = json.loads((bundle.path / "memory.json").read_text())
    assert (
        told["ram"]["arena"] == bundle.abi.workspace_bytes == max(layer["arena"] for layer in told["layers"])
    )
    assert told["flash"]["weights"] == bundle.manifest["weights_bytes"]
    module = EmulatedFirmware(bundle)
    module(random_sample(bundle.abi.inputs, 0))
    assert 0 < module.measured.stack_bytes <= told["ram"]["stack_bound"] + STACK_OF_CALL
    assert told["flash"]["code"] + told["flash"]["weights"] < module.measured.flash_bytes
    assert told["flash"]["code"] == sum(code_sizes(bundle, core).values())
    page = (bundle.path / "memory.md").read_text()
    assert f"| arena | {bundle.abi.workspace_bytes} |" in page and "arm-none-eabi-gcc" in page
    assert all(f"| {layer['layer']} |" in page for layer in told["layers"])


def code_sizes(bundle: Bundle, core: str) -> dict[str, int]:
    """Bytes of the model's functions in the linked program."""
    module = EmulatedFirmware(bundle)
    command = ["arm-none-eabi-nm", "--print-size", "--defined-only", str(module.program)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = (line.split() for line in said.splitlines())
    sizes = {e[3]: int(e[1], 16) for e in entries if len(e) == 4 and e[2] in "tT"}
    return {name: size for name, size in sizes.items() if re.match(r"net_(?!weights_)", name)}


def test_memory_is_told_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    bundle = graphopt.compile(DIGITS, target="cortex-m3", out=tmp_path / "fw", name="net")
    told = json.loads((bundle.path / "memory.json").read_text())
    assert told["compiler"] is None and "code" not in told["flash"] and "stack_bound" not in told["ram"]
    assert "the compiler was not installed" in (bundle.path / "memory.md").read_text()


def test_equal_models_give_equal_bytes(digits: Firmware, tmp_path: Path) -> None:
    first = digits("cortex-m3")
    second = graphopt.compile(DIGITS, target="cortex-m3", out=tmp_path / "fw", name="net")
    assert first.manifest["files"] == second.manifest["files"]


@pytest.mark.zoo
@pytest.mark.slow
@in_zoo(KEYWORDS)
def test_the_header_tells_scales_and_converts(keywords: Firmware, tmp_path: Path) -> None:
    """Rounded to nearest, saturated; what a stored number stands for comes back."""
    import onnx

    bundle = keywords("cortex-m3")
    model = onnx.load(zoo(KEYWORDS))
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    (moved,) = (n for n in model.graph.node if n.input[0] == model.graph.input[0].name)
    (reader,) = (n for n in model.graph.node if n.input[0] == moved.output[0])
    assert (moved.op_type, reader.op_type) == ("Reshape", "DequantizeLinear")
    scale, zero = (arrays[name].item() for name in reader.input[1:])
    (tmp_path / "net.h").write_bytes(bundle.header.read_bytes())
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        "    const float s = NET_INPUT_0_SCALE;\n"
        '    printf("%.9g %d %d %d %d %.9g", s, NET_INPUT_0_ZERO_POINT, net_quantize_0(s * 3.4f), '
        "net_quantize_0(1e9f), net_quantize_0(-1e9f), net_dequantize_0(NET_OUTPUT_0_ZERO_POINT + 2));\n"
        "    return 0;\n}\n"
    )
    done = clang(tmp_path, *STRICT, "-Wno-double-promotion", "-static", "main.c", "-lm", "-o", "main")
    assert done.returncode == 0, done.stderr
    told = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True).stdout.split()
    assert float(told[0]) == pytest.approx(scale, rel=1e-8)
    assert [int(t) for t in told[1:5]] == [zero, zero + 3, 127, -128]
    writer = next(n for n in model.graph.node if n.output[0] == model.graph.output[0].name)
    assert float(told[5]) == pytest.approx(2 * arrays[writer.input[1]].item(), rel=1e-6)
