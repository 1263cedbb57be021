"""How fast quantised models are here, and the reasons where they are not faster."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt
from graphopt.integer_speed import LITTLE, gain_of_bytes, measure_speed, reasons, slow_reasons, winograd_share
from graphopt.runnable import runnable
from graphopt.targets.device import load_target
from tests.passes.helpers import made
from tests.passes.quantization.quantised import samples_of
from tests.passes.quantization.test_placement import residual

REPORT = {
    "layers": [
        {"macs": 300, "schedule": "winograd-convolution{tile=4}"},
        {"macs": 100, "schedule": "direct-convolution{columns=4}"},
        {"macs": None, "schedule": "generic"},
    ]
}


@pytest.mark.parametrize(
    ("target", "instruction", "least", "most"),
    [
        ("x86-64-v3", "pmaddwd", 1.2, 2.0),  # two products each, and an addition of their own
        ("rpi5", "sdot", 2.0, 4.0),  # four products each
        ("aarch64-v8.6", "smmla", 3.0, 8.0),  # eight
    ],
)
def test_what_an_instruction_gains(target: str, instruction: str, least: float, most: float) -> None:
    """At most its products for each of a multiply-add of floats of the same width."""
    name, gain = gain_of_bytes(load_target(target))
    assert instruction in name and least < gain <= most


def test_reasons_follow_from_data() -> None:
    assert winograd_share(REPORT) == 0.75
    slow, fast = load_target("x86-64-v3"), load_target("aarch64-v8.6")
    assert gain_of_bytes(slow)[1] < LITTLE < gain_of_bytes(fast)[1]
    told = reasons(slow, REPORT, 0.4)
    assert ["40%" in told[0], "pmaddwd" in told[1], "75%" in told[2]] == [True] * 3
    plain = {"layers": REPORT["layers"][1:]}
    assert reasons(fast, plain, 1.0) == [
        "the time is not in multiplications: `bench --per-layer` shows where it goes"
    ]


def test_times_of_both(tmp_path: Path) -> None:
    graph = made(residual)
    data = samples_of(graph)
    models = [runnable(graph, folder=tmp_path / name) for name in ("first", "second")]
    speed = measure_speed(models, data[0], 1.0, 0.01)
    assert speed is not None and 0.2 < speed.ratio < 5
    assert bool(speed.reasons) == (round(speed.ratio, 2) < 1)
    assert slow_reasons(models, 1.0, 1.0) == () and slow_reasons(models, 0.8, 1.0)


def test_an_emulated_target_is_not_timed() -> None:
    graph = made(residual)
    result = graphopt.quantize(graph, samples_of(graph), target="rpi4", measure=True, methods="none")
    assert result.quality is not None and result.speed is None
