"""Kernels for Helium: odd shapes to the bit on a board, the same sources in plain C, and what they leave to others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

import graphopt
from graphopt.ir import DType, Graph, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.preparation import grouped_for, legalized
from graphopt.runtime.reference import run
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.kernels import constant_operands
from graphopt.targets.schedules.templates import choose
from graphopt.targets.schedules.templates.helium.calls import at, call
from graphopt.targets.schedules.templates.helium.packing import product_words
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.firmware.c_kernels import kernel
from tests.targets.firmware.conftest import STRICT, clang
from tests.targets.lower.test_quant import SCALE, dequantized, quantized

CORE = "cortex-m55"
ON_BOARD = pytest.mark.parametrize("core", [pytest.param(CORE, marks=runnable(CORE))])
STACK_OF_CALL = 64
"""Bytes of the caller's own that are painted over."""

PADS = {"pads": (1, 1, 1, 1)}


def sums(
    g: Draft,
    x: Value,
    channels: int,
    kernel: tuple[int, ...],
    *,
    lowest: int = -127,
    highest: int = 127,
    large: bool = False,
    **attributes: object,
) -> Value:
    """A convolution of bytes with any zero point; of `large` scales if asked."""
    depth = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    data = g.random.integers(lowest, highest + 1, (channels, depth, *kernel))
    data.flat[0] = lowest
    scale = g.random.uniform(0.5, 1.0, channels) / (1 if large else 64 * np.sqrt(depth * np.prod(kernel)))
    w = g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale), axis=0)
    bias = g.const(g.random.integers(-900, 900, channels), np.int32)
    bias = g.op("DequantizeLinear", bias, g.const(scale.astype(np.float32) * np.float32(SCALE)), axis=0)
    return g.op("Conv", dequantized(g, x, _zero(x)), w, bias, **attributes)


def convolved(
    g: Draft, x: Value, channels: int, kernel: tuple[int, ...], *, zero: int = 4, **attributes: object
) -> Value:
    """Bytes with the zero point `zero`."""
    return quantized(g, sums(g, x, channels, kernel, **attributes), zero, np.int8)  # type: ignore[arg-type]


def _zero(x: Value) -> int:
    return int(x.producer.inputs[2].scalar()) if x.producer is not None else 3  # type: ignore[union-attr,arg-type]


def ends() -> Graph:
    """What follows sums is no single requantisation: an activation, a residual that is quantised with them, scales of
    1/2 and above, floats; of convolutions, groups, single channels and products."""
    g = Draft()
    x = convolved(g, g.input(1, 3, 8, 7, dtype=DType.int8), 20, (3, 3), zero=2, **PADS)
    swish = quantized(g, g.op("HardSwish", sums(g, x, 20, (3, 3), **PADS)), 3, np.int8)
    once = quantized(g, g.op("Add", sums(g, swish, 20, (1, 1)), dequantized(g, x, 2)), -4, np.int8)
    gated = quantized(
        g, g.op("HardSwish", sums(g, once, 20, (3, 3), group=20, strides=(2, 1), **PADS)), 5, np.int8
    )
    g.output(
        sums(g, gated, 6, (2, 3), group=2), quantized(g, sums(g, once, 7, (1, 1), large=True), 1, np.int8)
    )
    wide = g.input(1, 24, 2, 70, dtype=DType.int8)
    g.output(quantized(g, sums(g, wide, 4, (3, 3), large=True, **PADS), 1, np.int8))
    rows = g.input(3, 2, 37, dtype=DType.int8)
    w = g.op("DequantizeLinear", g.const(g.random.integers(-127, 128, (37, 21)), np.int8), g.const(0.002))
    g.output(g.op("MatMul", dequantized(g, rows), w))
    return g.graph


def network() -> Graph:
    """Pads on some sides and rows outside, strides, dilations, groups, one axis, rows that take several strips, images
    of one pixel, two images at once, all kinds of pools, sums with a second image, an activation's range."""
    g = Draft()
    image = g.input(2, 3, 11, 9, dtype=DType.int8)
    x = convolved(g, image, 20, (5, 3), zero=-9, strides=(2, 1), pads=(3, 0, 2, 2))
    y = convolved(g, x, 20, (3, 3), group=20, zero=5, **PADS)
    total = g.op("Add", dequantized(g, x, -9), dequantized(g, y, 5))
    x = quantized(g, g.op("Relu", total), -20, np.int8)
    y = convolved(g, x, 20, (3, 2), zero=7, pads=(1, 1, 1, 0))
    added = g.op("Add", dequantized(g, y, 7), dequantized(g, x, -20))
    before, x = x, quantized(g, g.op("Clip", added, g.const(-3.0), g.const(4.0)), 2, np.int8)
    both = g.op("Add", dequantized(g, x, 2), dequantized(g, before, -20))
    both = quantized(g, both, 1, np.int8)
    grouped = convolved(g, x, 10, (3, 3), group=2, dilations=(1, 2), pads=(0, 2, 1, 1))
    strided = convolved(g, x, 20, (3, 5), group=20, strides=(2, 3), pads=(2, 0, 0, 4))
    dilated = convolved(g, x, 20, (2, 2), group=20, dilations=(3, 2), **PADS)
    lowest = convolved(g, x, 20, (2, 2), group=20, lowest=-128)
    apart = convolved(g, x, 17, (1, 1), strides=(2, 2))
    largest = g.op("MaxPool", dequantized(g, both, 1), kernel_shape=(3, 2), strides=(2, 2), **PADS)
    mean = g.op("AveragePool", dequantized(g, x, 2), kernel_shape=(3, 3), strides=(2, 1), pads=(1, 0, 0, 1))
    pixel = quantized(g, g.op("GlobalAveragePool", dequantized(g, apart, 4)), 6, np.int8)
    g.output(
        grouped,
        strided,
        dilated,
        lowest,
        apart,
        quantized(g, largest, 1, np.int8),
        quantized(g, mean, -7, np.int8),
    )
    g.output(convolved(g, pixel, 33, (1, 1)))
    line = g.input(1, 24, 70, dtype=DType.int8)
    g.output(convolved(g, convolved(g, line, 24, (5,), pads=(2, 2)), 4, (1,), strides=(2,)))
    wide = g.input(1, 24, 4, 70, dtype=DType.int8)
    g.output(
        convolved(g, wide, 3, (3, 3), **PADS), convolved(g, wide, 24, (5, 3), group=24, pads=(2, 1, 2, 1))
    )
    rows = g.input(3, 2, 37, dtype=DType.int8)
    w = g.op("DequantizeLinear", g.const(g.random.integers(-127, 128, (37, 21)), np.int8), g.const(0.002))
    g.output(quantized(g, g.op("MatMul", dequantized(g, rows), w), 1, np.int8))
    return g.graph


def nibbles() -> Graph:
    """Weights of 4 bits: in tiles of one, two and three pixels, whole vectors and parts of them, with all ends."""
    g, bits = Draft(), {"lowest": -8, "highest": 7}
    x = convolved(g, g.input(1, 3, 8, 7, dtype=DType.int8), 20, (3, 3), zero=2, **bits, **PADS)  # type: ignore[arg-type]
    swish = quantized(g, g.op("HardSwish", sums(g, x, 19, (1, 1), **bits)), 3, np.int8)
    y = convolved(g, x, 10, (2, 3), zero=-9, group=2, strides=(2, 3), **bits)  # type: ignore[arg-type]
    rows = g.input(5, 37, dtype=DType.int8)
    w = g.op("DequantizeLinear", g.const(g.random.integers(-8, 8, (37, 21)), np.int8), g.const(0.02))
    made = g.op("MatMul", dequantized(g, rows), w)
    g.output(swish, y, quantized(g, made, 1, np.int8))
    return g.graph


@pytest.fixture(scope="module", params=[network, ends, nibbles])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Bundle]:
    graph = request.param()
    return graph, graphopt.compile(graph, target=CORE, out=tmp_path_factory.mktemp("odd") / "fw", name="net")


def test_every_layer_has_a_kernel(odd: tuple[Graph, Bundle]) -> None:
    text = (odd[1].path / "net_kernels.c").read_text()
    assert ("helium_add_sums(" in text) == (len(odd[0].outputs) == 4)
    moved = ["Pack"], ["Unpack"]
    found = {layer["schedule"] for layer in odd[1].report["layers"] if layer["operators"] not in moved}
    kinds = "addition convolution depthwise pool product".split()
    others = "convolution convolution-sums depthwise-sums product-sums".split()
    fewer = "convolution-4bit convolution-sums-4bit product-4bit".split()
    kinds = {4: others, 3: fewer}.get(len(odd[0].outputs), kinds)
    assert {name.partition("{")[0] for name in found} == {f"helium-{kind}" for kind in kinds}


@ON_BOARD
def test_odd_shapes(odd: tuple[Graph, Bundle], core: str) -> None:
    """Bit for bit what numpy computes in fixed point, at both ends of the bytes too; in the self-test as well."""
    graph, bundle = odd
    random = np.random.default_rng(3)
    samples = []
    for low, high in ((-128, 128), (-128, -127), (127, 128)):
        samples.append(
            {v.name: random.integers(low, high, v.static_shape).astype(np.int8) for v in graph.inputs}
        )
    exact = legalized(graph, fixed_point=True)
    module = EmulatedFirmware(bundle, selftest=True, count=True)
    for sample, outputs in zip(samples, module.run(samples), strict=True):
        for name, expected in run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], expected, err_msg=name)
    # What routines take is counted with the kernels that call them.
    assert all(name.startswith(("net_", "mem")) for name in module.measured.instructions)
    bound = json.loads((bundle.path / "memory.json").read_text())["ram"]["stack_bound"]
    assert 0 < module.measured.stack_bytes <= bound + STACK_OF_CALL


@ON_BOARD
def test_gcc_has_no_warning(odd: tuple[Graph, Bundle], core: str) -> None:
    target = load_target(core)
    for optimised in ("-O0", "-O2"):
        command = [
            f"{target.gcc}gcc",
            *target.gcc_flags,
            *STRICT,
            optimised,
            "-c",
            "net_kernels.c",
            "-o",
            "/dev/null",
        ]
        done = subprocess.run(command, cwd=odd[1].path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]


def test_clang_has_no_warning_with_helium_and_without(odd: tuple[Graph, Bundle], tmp_path: Path) -> None:
    bare = ["-ffreestanding", "-I", str(Path(__file__).parent / "headers"), "-o", str(tmp_path / "kernels.o")]
    for machine in (["-mcpu=cortex_m55"], ["-mcpu=cortex_m4"]):
        done = clang(
            odd[1].path,
            *STRICT,
            *bare,
            *machine,
            "-O1",
            "-c",
            "net_kernels.c",
            target="thumb-freestanding-eabihf",
        )
        assert done.returncode == 0, done.stderr[:2000]


def test_plain_c_makes_the_same_and_nothing_undefined(odd: tuple[Graph, Bundle], tmp_path: Path) -> None:
    """The self-test on this machine in 32 bits, under the sanitizer."""
    for name in odd[1].manifest["files"]:
        (tmp_path / name).write_bytes((odd[1].path / name).read_bytes())
    (tmp_path / "main.c").write_text(
        '#include "net.h"\nstatic unsigned char arena[NET_ARENA_BYTES] NET_ALIGNED;\n'
        "int main(void) { return net_selftest(arena, sizeof arena); }\n"
    )
    flags = ["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-static", "-std=c99"]
    sources = ("main.c", "net.c", "net_kernels.c", "net_weights.c", "net_selftest.c")
    done = clang(tmp_path, *flags, *sources, "-lm", "-o", "main")
    assert done.returncode == 0, done.stderr[:2000]
    assert subprocess.run(["./main"], cwd=tmp_path).returncode == 0


def kernel_of(graph: Graph, core: str = CORE) -> str:
    """The template of the only group."""
    target = load_target(core)
    (group,) = filter(is_fused, grouped_for(legalized(graph, fixed_point=True), target).nodes)
    found = choose(body_of(group), constant_operands(group), target)
    return found.template.name if found else "generic"


def layer(scale: float = 0.002, lowest: int = -127, dtype: DType = DType.int8) -> Graph:
    g = Draft()
    x = g.op("Transpose", g.input(1, 5, 4, 8, dtype=dtype), perm=(0, 3, 1, 2))
    data = g.random.integers(lowest, 128, (8, 1, 3, 3))
    data[0] = lowest
    w = g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale))
    zero = g.const(3, dtype.numpy.type)
    sums = g.op("Conv", g.op("DequantizeLinear", x, g.const(SCALE), zero), w, group=8)
    made = g.op("Transpose", g.op("QuantizeLinear", sums, g.const(SCALE), zero), perm=(0, 2, 3, 1))
    g.output(made)
    return g.graph


def test_what_is_left_to_others() -> None:
    assert kernel_of(layer()) == "helium-depthwise"
    assert kernel_of(layer(), "cortex-m7").startswith("helium") is False
    # Two products of -128 do not fit 16 bits.
    assert kernel_of(layer(lowest=-128)) == "helium-convolution"
    # Scales from 1/2 on are shifted first.
    assert kernel_of(layer(scale=0.6)) == "helium-depthwise-sums"


@pytest.mark.parametrize("pixels", [1, 2, 4, 7, 9])
def test_how_near_an_image_may_lie_to_its_products(pixels: int) -> None:
    """A tile of up to 3 pixels is read until all its channels are written."""
    depth, channels = 5, 8

    def build(x: tirx.Var, w: tirx.Var, y: tirx.Var) -> None:
        call("product", at(x, 0), depth, pixels, at(w, 0), depth, channels, at(y, 0), channels, 0, -128, 127)

    made = kernel(
        build,
        (pixels * depth, "int8"),
        (product_words(depth, channels, 8), "int32"),
        (pixels * channels, "int8"),
    )
    least, first, left = 0, 0, pixels
    while left:
        tile = 1 if left == 1 else 2 if left in (2, 4) else 3
        least = max(least, (first + tile) * channels - first * depth)
        first, left = first + tile, left - tile
    assert least <= made.overlaps["f"][0, 2].least <= least + 2 * channels


def test_a_sum_may_lie_where_its_operands_are() -> None:
    made = kernel(
        lambda a, b, y: call("add", at(a, 0), at(b, 0), 9, 1, 2, 3, 1 << 20, at(y, 0), 0, -128, 127),
        *[(9, "int8")] * 3,
    )
    assert made.overlaps["f"][0, 2].in_place and made.overlaps["f"][1, 2].in_place
