"""Firmware on every core that QEMU has a board for: it answers as the model does, and tells what it took."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.oracles import onnx_runtime
from graphopt.api import load, optimize
from graphopt.errors import ToolchainError, UnsupportedError, UsageError
from graphopt.preparation import legalized
from graphopt.runtime import reference
from graphopt.runtime.compare import compare_outputs
from graphopt.targets.abi import FIRMWARE_ALIGNMENT
from graphopt.targets.device import load_target
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.plan_memory import Overlap, aligned
from graphopt.verification import random_sample, verify_bundle
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import CORES, DIGITS, Firmware, in_zoo, zoo
from tests.targets.firmware.residual import residual

KEYWORDS = "mlperf_kws_int8_qdq_op13.onnx"
ON_CORES = [pytest.param(core, marks=runnable(core)) for core in CORES]

FLOAT_STEPS = 1e-5
"""Of an output's scale: sums of a few hundred float32 products, in another order."""


@pytest.mark.parametrize("core", ON_CORES)
def test_floats_are_the_models(digits: Firmware, core: str) -> None:
    bundle = digits(core)
    module = EmulatedFirmware(bundle, selftest=True)
    samples = [random_sample(bundle.abi.inputs, seed) for seed in range(3)]
    oracle = onnx_runtime(DIGITS)
    for sample, outputs in zip(samples, module.run(samples), strict=True):
        compare_outputs(oracle(sample), outputs).raise_if_worse_than(FLOAT_STEPS)


@pytest.mark.zoo
@in_zoo(KEYWORDS)
@pytest.mark.slow
@pytest.mark.parametrize("core", ON_CORES)
def test_integers_are_those_of_the_reference(keywords: Firmware, core: str) -> None:
    """Bit for bit what numpy computes in fixed point; at most one step from ONNX Runtime, which uses floats."""
    bundle = keywords(core)
    exact = legalized(optimize(load(zoo(KEYWORDS))), fixed_point=True)
    samples = [random_sample(bundle.abi.inputs, seed) for seed in range(3)]
    oracle = onnx_runtime(zoo(KEYWORDS))
    module = EmulatedFirmware(bundle, selftest=True)
    for sample, outputs in zip(samples, module.run(samples), strict=True):
        for name, array in reference.run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], array)
            away = outputs[name].astype(int) - oracle(sample)[name].astype(int)
            assert np.abs(away).max() <= 1


@pytest.mark.parametrize("core", [pytest.param(c, marks=runnable(c)) for c in ("cortex-m4f", "rv32imac")])
def test_memory_is_shared_and_nothing_changes(blocks: Firmware, core: str) -> None:
    """Bit for bit the reference, in two images beside workspaces where three are alive at once."""
    bundle = blocks(core)
    image = aligned(12 * 11 * 9, FIRMWARE_ALIGNMENT)
    layers = json.loads((bundle.path / "memory.json").read_text())["layers"]
    assert 2 * image <= max(layer["arena"] - layer["workspace"] for layer in layers) < 2.2 * image
    samples = [random_sample(bundle.abi.inputs, seed) for seed in range(3)]
    exact = legalized(optimize(residual()), fixed_point=True)
    for sample, outputs in zip(samples, EmulatedFirmware(bundle).run(samples), strict=True):
        for name, array in reference.run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], array)


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_kernels_that_lie_about_it_are_found_out(
    core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With operands wherever the planner likes outputs are wrong, and the self-test tells."""
    from graphopt.targets.firmware import kernels

    def anywhere(function: object, operands: Collection[int]) -> dict[tuple[int, int], Overlap]:
        return {(n, m): Overlap(-(1 << 20), in_place=True) for n in operands for m in range(8) if m != n}

    monkeypatch.setattr(kernels, "overlaps", anywhere)
    bundle = graphopt.compile(residual(), target=core, out=tmp_path / "fw", name="net")
    with pytest.raises(ToolchainError, match="the self-test finds layer"):
        EmulatedFirmware(bundle, selftest=True)(random_sample(bundle.abi.inputs, 0))


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_what_it_takes_is_counted(digits: Firmware, core: str) -> None:
    """The same in every run, whatever it begins with; the arena is a part of the RAM."""
    bundle = digits(core)
    sample = random_sample(bundle.abi.inputs, 0)
    alone = EmulatedFirmware(bundle, count=True)
    alone.run([sample])
    again = EmulatedFirmware(bundle, count=True, selftest=True, weights="c")
    again.run([sample, sample, sample])
    assert alone.measured.instructions == again.measured.instructions
    macs = bundle.report["summary"]["macs"]
    assert macs < alone.measured.total_instructions < 6 * macs
    assert all(n.startswith("net_") or "mem" in n or "exp" in n for n in alone.measured.instructions)
    assert 0 < alone.measured.stack_bytes < 2048
    arena = bundle.abi.workspace_bytes
    assert arena < alone.measured.ram_bytes < arena + 2048
    assert bundle.manifest["weights_bytes"] < alone.measured.flash_bytes


def test_floats_take_the_registers_of_an_fpu(digits: Firmware) -> None:
    """Tiles of sums are larger there than where a float is in registers for integers."""

    def sums(core: str) -> list[int]:
        schedules = [layer["schedule"] for layer in digits(core).report["layers"]]
        tiles = [re.search(r"columns=(\d+) vectors=(\d+)", schedule) for schedule in schedules]
        return [int(tile[1]) * int(tile[2]) for tile in tiles if tile]

    assert max(sums("cortex-m3")[:2]) < 4 < min(sums("cortex-m4f")[:2])


@pytest.mark.parametrize("core", [pytest.param("rv32imac", marks=runnable("rv32imac"))])
def test_verification_sees_a_difference(digits: Firmware, core: str, tmp_path: Path) -> None:
    import onnx

    good = verify_bundle(DIGITS, digits(core).path, samples=2, tolerance=FLOAT_STEPS)
    assert good.agrees and good.machine == "qemu-system-riscv32 -M riscv-virt"
    assert good.measured is not None and good.measured.total_instructions
    model = onnx.load(DIGITS)
    bias = next(w for w in model.graph.initializer if len(w.dims) == 1)
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert not verify_bundle(
        tmp_path / "other.onnx", digits(core).path, samples=1, tolerance=FLOAT_STEPS
    ).agrees


@pytest.mark.zoo
@in_zoo(KEYWORDS)
@pytest.mark.slow
@pytest.mark.parametrize("core", [pytest.param("cortex-m7", marks=runnable("cortex-m7"))])
def test_verification_asks_for_the_same_bits(
    keywords: Firmware, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step in one number is a difference."""
    good = verify_bundle(zoo(KEYWORDS), keywords(core).path, samples=2)
    assert good.agrees and good.worst == 0 and "fixed point" in good.oracle
    run = EmulatedFirmware.run

    def off_by_one(
        self: EmulatedFirmware, samples: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        first, *rest = run(self, samples)
        return [
            {name: array + np.eye(1, array.size, dtype=array.dtype) for name, array in first.items()},
            *rest,
        ]

    monkeypatch.setattr(EmulatedFirmware, "run", off_by_one)
    assert not verify_bundle(zoo(KEYWORDS), keywords(core).path, samples=2).agrees


@pytest.mark.parametrize("core", [pytest.param("cortex-m0plus", marks=runnable("cortex-m0plus"))])
def test_code_for_the_smallest_core_is_armv6m(digits: Firmware, core: str) -> None:
    """The board that runs it has a Cortex-M3, which would run more."""
    module = EmulatedFirmware(digits(core))
    program = module.program
    told = subprocess.run(["arm-none-eabi-readelf", "-A", program], capture_output=True, text=True).stdout
    assert "Tag_CPU_arch: v6S-M" in told and "Tag_THUMB_ISA_use: Thumb-1" in told
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True
    ).stdout
    mnemonics = set(re.findall(r"^ *[0-9a-f]+:\t([a-z][a-z0-9.]*)(?=\t|$)", listing, re.MULTILINE))
    assert {"muls", "adds"} <= mnemonics
    assert not {m for m in mnemonics if m.startswith(("mla", "sdiv", "udiv", "smull", "it", "cbz", "v"))}


def test_firmware_has_no_threads_no_clock_and_one_shape(tmp_path: Path) -> None:
    for options, message in (
        ({"threads": 2}, "firmware has no threads"),
        ({"profile": True}, "firmware has no clock"),
        ({"input_shapes": [{}, {}]}, "firmware holds one shape"),
    ):
        with pytest.raises(UsageError, match=message):
            graphopt.compile(DIGITS, target="cortex-m4f", out=tmp_path / "fw", **options)
    assert not list(tmp_path.iterdir())


def test_what_a_board_cannot_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        'base = "cortex-m0plus"\n'
        '[[regions]]\nname = "flash"\nkind = "flash"\nstart = 0\nbytes = 0x8000\n'
        '[[regions]]\nname = "sram"\nkind = "ram"\nstart = 0x2000_0000\nbytes = 1024\n'
    )
    with pytest.raises(UnsupportedError, match=r"it needs [\d,]+ bytes of ram .* tiny has 1,024"):
        graphopt.compile(DIGITS, target=str(tmp_path / "tiny.toml"), out=tmp_path / "fw")
    assert not (tmp_path / "fw").exists()
    assert load_target(str(tmp_path / "tiny.toml")).bytes_of("ram") == 1024


@pytest.mark.parametrize("core", [pytest.param("cortex-m55", marks=runnable("cortex-m55"))])
def test_the_core_without_a_board_builds(digits_int8: Firmware, core: str, tmp_path: Path) -> None:
    """A Cortex-M85 is in no emulator: its library is made, without a warning, of code for ARMv8.1-M."""
    bundle = digits_int8("cortex-m85")
    for name in bundle.manifest["files"]:
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    done = subprocess.run(["make", "WEIGHTS=c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    told = subprocess.run(
        ["arm-none-eabi-readelf", "-A", "libnet.a"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Tag_CPU_arch: v8.1-M.mainline" in told.stdout and "Tag_MVE_arch" in told.stdout
