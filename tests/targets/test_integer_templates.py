"""Templates for convolutions of bytes: the same bits as numpy's sums, on every kind of machine.

All layers of a machine are compiled into one library. An activation with an exponential in it may be off by one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

from graphopt.api import compile
from graphopt.ir import DType, Graph, Value
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import run
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target, load_target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates import (
    channel_quads,
    integer_convolution,
    integer_depthwise,
    unblocked_convolution,
)
from graphopt.targets.schedules.templates.channel_quads import QUAD, QuadsOfX86
from graphopt.targets.schedules.templates.dot.amx import AmxDot
from graphopt.targets.schedules.templates.dot.vnni import QuadDot
from graphopt.targets.schedules.templates.integer_convolution import IntegerConvolution
from graphopt.verification import runner
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled
from tests.targets.conftest import runnable
from tests.targets.layers.base import Layer
from tests.targets.layers.integers import (
    CONVOLUTIONS,
    DEPTHWISE,
    FEW,
    SHORT,
    depthwise,
    depthwise_lowest_weights,
    depthwise_residual,
    depthwise_unsigned,
    depthwise_wider_than_image,
    image,
    in_few_bits,
    in_four_bits,
    lowest_weights,
    odd_channels,
    photograph,
    requantized,
    sums,
)

APPROXIMATE = {"swish"}
PORTABLE = (depthwise_residual, depthwise_unsigned, depthwise_wider_than_image)
BOARDS = {
    "rpi4": (*FEW, depthwise, lowest_weights, *SHORT[1::3]),
    "rpi5": (*FEW[:6], depthwise, depthwise_residual, depthwise_lowest_weights, *SHORT[::3]),
    "aarch64-v8.6": FEW[:4],
    "rpi-armv7": (odd_channels, photograph, depthwise_residual, *SHORT),
}
"""Layers by machine."""


def network(*layers: Layer) -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The layers side by side, inputs that fill the range of their type, and what comes out."""
    draft, random = Draft(), np.random.default_rng(2)
    for build in layers:
        draft.graph.add_output(build(draft), build.__name__)
    inputs = {}
    for value in draft.graph.inputs:
        bounds = np.iinfo(value.dtype.numpy)
        inputs[value.name] = random.integers(bounds.min, bounds.max + 1, value.static_shape).astype(
            value.dtype.numpy
        )
    return draft.graph, inputs, run(draft.graph, inputs)


def assert_same(results: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    for name, right in want.items():
        assert len(np.unique(right)) > 2
        off = np.abs(results[name].astype(np.int64) - right)
        assert off.max() <= (name in APPROXIMATE), name


def on_this_machine(target: Target, folder: Path, *layers: Layer) -> dict[str, str]:
    """Compares, and tells how each kernel is scheduled."""
    graph, inputs, want = network(*layers)
    compiled = compile_model([grouped_for(graph, target)], target, "layers")
    assert_same(run_compiled(compiled, inputs, folder), want)
    return compiled.schedules


def host(**changes: object) -> Target:
    return dataclasses.replace(load_target("host"), **changes)  # type: ignore[arg-type]


def test_here(tmp_path: Path) -> None:
    schedules = on_this_machine(host(), tmp_path, *CONVOLUTIONS, *DEPTHWISE, *SHORT)
    anchors = [schedule for name, schedule in schedules.items() if "conv" in name]
    assert anchors and all(schedule.startswith("integer-") for schedule in anchors)


def test_depthwise_in_narrower_vectors(tmp_path: Path) -> None:
    if load_target("host").vector_bits < 256:
        pytest.skip("this machine has none of 256 bits")
    on_this_machine(host(vector_bits=256, vector_registers=16), tmp_path, *DEPTHWISE[::2])


def test_quads_of_taps_on_machines_that_lack_the_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written out: packing and order are those of the instruction."""
    monkeypatch.setattr(channel_quads, "vpdpbusd", _written_out)
    monkeypatch.setattr(
        integer_depthwise, "taps_of", lambda x, weights, kernel, target: QuadsOfX86(kernel, 8)
    )
    schedules = on_this_machine(host(), tmp_path, depthwise_unsigned)
    assert any("depthwise-quads" in schedule for schedule in schedules.values())


def _written_out(total: Expr, x: Expr, factor: Expr) -> Expr:
    lanes = total.ty.dtype.lanes
    unsigned = tirx.reinterpret(f"uint8x{QUAD * lanes}", x)
    for byte in range(QUAD):
        picked = (tirx.Shuffle([v], list(range(byte, QUAD * lanes, QUAD))) for v in (unsigned, factor))
        one, other = (v.astype(f"int32x{lanes}") for v in picked)
        total = total + one * other
    return total


@pytest.fixture
def always_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long unpacking takes."""
    monkeypatch.setattr(integer_convolution, "stays_packed", lambda *_: True)


@pytest.mark.usefixtures("always_packed")
def test_in_few_bits(tmp_path: Path) -> None:
    fewer = [in_few_bits(build, bits) for bits in (2, 3) for build in FEW[bits:6]]
    schedules = on_this_machine(host(), tmp_path, *map(in_four_bits, (*CONVOLUTIONS, *SHORT[:3])), *fewer)
    anchors = [schedule for name, schedule in schedules.items() if "conv" in name]
    kept = [schedule for schedule in anchors if "bit{" not in schedule]
    assert all(sum(f"-{bits}bit{{" in schedule for schedule in anchors) > 1 for bits in (2, 3, 4))
    assert len(kept) < len(anchors) and all(schedule.startswith("integer-transposed") for schedule in kept)


def test_with_the_portable_ones(tmp_path: Path) -> None:
    on_this_machine(host(family="other", vector_bits=64, vector_registers=8), tmp_path, *PORTABLE)


@pytest.mark.usefixtures("always_packed")
def test_with_dot_products_this_machine_may_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def emulated(*_: object) -> QuadDot:
        return QuadDot(16, 4, emulated=True)

    monkeypatch.setattr(integer_convolution, "choose_dot", emulated)
    unsigned = [build for build in CONVOLUTIONS if _reads_unsigned(build)]
    assert len(unsigned) > 1
    on_this_machine(host(), tmp_path, *unsigned, *map(in_four_bits, unsigned))


def test_squares_on_machines_that_lack_the_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they fit, however little they bring."""
    monkeypatch.setattr(unblocked_convolution, "fitting_dots", lambda *_: [AmxDot(16, 64, emulated=True)])
    monkeypatch.setattr(IntegerConvolution, "beats", lambda *_: False)
    plain = [build for build in CONVOLUTIONS if build not in DEPTHWISE]
    schedules = on_this_machine(host(), tmp_path, *plain)
    assert sum("integer-unblocked-amx" in schedule for schedule in schedules.values()) > len(plain) / 2


@pytest.mark.skipif(not load_target("host").uses_amx, reason="this machine has no AMX")
def test_what_amx_reads_behind_a_single_pixel_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen of them, as the gates of an EfficientNet have one of 1,152 channels."""

    def gate(g: Draft) -> Value:
        return requantized(g, sums(g, image(g, 1, 1152, 1, 1), 48, (1, 1), zero=3))

    monkeypatch.setattr(IntegerConvolution, "beats", lambda *_: False)
    graph, _, _ = network(gate)
    target = load_target("host")
    made = compile_model([grouped_for(graph, target)], target, "gate")
    assert any("unblocked" in schedule for schedule in made.schedules.values())
    assert max(sum(call.workspaces) for call in made.programs[0].calls) >= 16 * 1152


def _reads_unsigned(build: Layer) -> bool:
    draft = Draft()
    build(draft)
    return draft.graph.inputs[0].dtype is DType.uint8


@pytest.mark.parametrize("name", [pytest.param(name, marks=runnable(name)) for name in BOARDS])
@pytest.mark.usefixtures("always_packed")
def test_on_boards(name: str, tmp_path: Path) -> None:
    packed = [build for build in BOARDS[name] if build not in (*DEPTHWISE, lowest_weights, *SHORT[3:])]
    fewer = [in_few_bits(build, bits) for bits in (2, 3) for build in packed[:2]]
    graph, inputs, want = network(*BOARDS[name], *map(in_four_bits, packed), *fewer)
    execute, _ = runner(compile(graph, target=name, out=tmp_path / "layers"))
    assert_same(execute(inputs), want)
