"""Kernels for cores without vectors: odd shapes to the bit on boards, the same sources in plain C, no warnings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType, Graph, Value
from graphopt.preparation import legalized
from graphopt.runtime.reference import run
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware.emulated import EmulatedFirmware
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import STRICT, Firmware, clang
from tests.targets.firmware.test_helium import PADS, STACK_OF_CALL, convolved, kernel_of, layer
from tests.targets.lower.test_quant import dequantized, quantized

CORES = ("cortex-m0plus", "cortex-m4f", "rv32imac")
"""Without products of 64 bits, with pairs of 16 bits, with neither."""

ON_BOARDS = pytest.mark.parametrize("core", [pytest.param(core, marks=runnable(core)) for core in CORES])


def network() -> Graph:
    """Kernels of all kinds, pads on some sides and rows outside, strides, dilations, several filters a channel, one
    axis, two images, odd channels, rows that take several bands, the lowest weights; pools, one of over 255 pixels."""
    g = Draft()
    image = g.input(2, 7, 11, 9, dtype=DType.int8)
    first = convolved(g, image, 7, (3, 3), group=7, zero=-9, **PADS)
    g.output(
        convolved(g, first, 7, (3, 3), group=7, strides=(2, 2), pads=(0, 0, 1, 1), lowest=-128),
        convolved(g, first, 21, (3, 3), group=7, pads=(1, 2, 0, 1)),
        convolved(g, first, 14, (5, 5), group=7, strides=(1, 2), pads=(2, 3, 4, 2)),
        convolved(g, first, 7, (3, 3), group=7, dilations=(2, 3), pads=(2, 0, 2, 3)),
        convolved(g, first, 7, (3, 3), group=7, strides=(2, 1), pads=(3, 1, 3, 1)),
        convolved(g, first, 7, (4, 1), group=7, strides=(3, 3), pads=(1, 0, 0, 0)),
    )
    line = g.input(1, 6, 33, dtype=DType.int8)
    g.output(convolved(g, convolved(g, line, 6, (5,), group=6, pads=(2, 2)), 6, (3,), group=6, strides=(2,)))
    _pool(g, first)
    wide = g.input(1, 8, 20, 23, dtype=DType.int8)
    x = convolved(g, wide, 8, (3, 3), group=8, **PADS)
    g.output(convolved(g, x, 8, (3, 3), group=8, strides=(2, 2), **PADS))
    pixel = quantized(g, g.op("GlobalAveragePool", dequantized(g, x, 4)), 6, np.int8)
    g.output(pixel, quantized(g, g.op("GlobalMaxPool", dequantized(g, x, 4)), 4, np.int8))
    return g.graph


def _pool(g: Draft, x: Value) -> None:
    """Seven channels, pads, an activation's range."""
    largest = g.op("MaxPool", dequantized(g, x, -9), kernel_shape=(3, 2), strides=(2, 2), **PADS)
    mean = g.op("AveragePool", dequantized(g, x, -9), kernel_shape=(3, 3), strides=(2, 1), pads=(1, 0, 0, 1))
    g.output(quantized(g, largest, -9, np.int8), quantized(g, g.op("Relu", mean), -7, np.int8))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    bundles: dict[str, Bundle] = {}

    def get(core: str) -> Bundle:
        if core not in bundles:
            out = tmp_path_factory.mktemp(core) / "fw"
            bundles[core] = graphopt.compile(network(), target=core, out=out, name="net")
        return bundles[core]

    return get


@ON_BOARDS
def test_odd_shapes(compiled: Firmware, core: str) -> None:
    """Bit for bit what numpy computes in fixed point, at both ends of the bytes too; in the self-test as well."""
    graph, bundle = network(), compiled(core)
    found = {layer["schedule"].partition("{")[0] for layer in bundle.report["layers"]}
    assert found - {"generic"} == {"words-depthwise", "words-pool"}
    random = np.random.default_rng(3)
    samples = [
        {v.name: random.integers(low, high, v.static_shape).astype(np.int8) for v in graph.inputs}
        for low, high in ((-128, 128), (-128, -127), (127, 128))
    ]
    exact = legalized(graph, fixed_point=True)
    module = EmulatedFirmware(bundle, selftest=True)
    for sample, outputs in zip(samples, module.run(samples), strict=True):
        for name, expected in run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], expected, err_msg=name)
    bound = json.loads((bundle.path / "memory.json").read_text())["ram"]["stack_bound"]
    assert 0 < module.measured.stack_bytes <= bound + STACK_OF_CALL


@pytest.mark.parametrize(
    "core", [pytest.param(c, marks=runnable(c)) for c in ("cortex-m4f", "cortex-m0plus")]
)
def test_gcc_has_no_warning(compiled: Firmware, core: str) -> None:
    target = load_target(core)
    for optimised in ("-O0", "-O2"):
        command = [f"{target.gcc}gcc", *target.gcc_flags, *STRICT, optimised, "-c", "net_kernels.c"]
        done = subprocess.run(
            [*command, "-o", "/dev/null"], cwd=compiled(core).path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("machine", ["cortex_m4", "cortex_m0plus"])
def test_clang_has_no_warning(compiled: Firmware, machine: str, tmp_path: Path) -> None:
    bare = ["-ffreestanding", "-I", str(Path(__file__).parent / "headers"), "-o", str(tmp_path / "kernels.o")]
    flags = [*STRICT, *bare, f"-mcpu={machine}", "-O1", "-c", "net_kernels.c"]
    done = clang(compiled("cortex-m4f").path, *flags, target="thumb-freestanding-eabi")
    assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("core", ["cortex-m4f", "rv32imac"])
def test_plain_c_makes_the_same_and_nothing_undefined(compiled: Firmware, core: str, tmp_path: Path) -> None:
    """The self-test on this machine in 32 bits, under the sanitizer."""
    bundle = compiled(core)
    for name in bundle.manifest["files"]:
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    (tmp_path / "main.c").write_text(
        '#include "net.h"\nstatic unsigned char arena[NET_ARENA_BYTES] NET_ALIGNED;\n'
        "int main(void) { return net_selftest(arena, sizeof arena); }\n"
    )
    flags = ["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-static", "-std=c99"]
    sources = ("main.c", "net.c", "net_kernels.c", "net_weights.c", "net_selftest.c")
    done = clang(tmp_path, *flags, *sources, "-lm", "-o", "main")
    assert done.returncode == 0, done.stderr[:2000]
    assert subprocess.run(["./main"], cwd=tmp_path).returncode == 0


def test_what_is_left_to_others() -> None:
    assert kernel_of(layer(lowest=-128), "cortex-m7") == "words-depthwise"
    assert kernel_of(layer(), "cortex-m55") == "helium-depthwise"
    # Scales from 1/2 on are shifted first.
    assert kernel_of(layer(scale=0.6), "cortex-m7") == "generic"


def test_images_without_elements_are_left_to_others(tmp_path: Path) -> None:
    g = Draft()
    x = convolved(g, g.input(0, 8, 5, 5, dtype=DType.int8), 8, (3, 3), group=8)
    g.output(x, quantized(g, g.op("MaxPool", dequantized(g, x, 4), kernel_shape=(2, 2)), 4, np.int8))
    bundle = graphopt.compile(g.graph, target="cortex-m4f", out=tmp_path / "fw", name="net")
    assert not any(layer["schedule"].startswith("words") for layer in bundle.report["layers"])
