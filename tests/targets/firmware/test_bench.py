"""The benchmark's way to a row: a build that is counted, and a bundle's C run on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.mcu import near, taken
from bench.mcu_answers import run_here
from bench.mcu_emx import emx_bundle
from bench.oracles import onnx_runtime
from graphopt.verification import random_sample
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import DIGITS, Firmware

PEER = """\
#include <stdint.h>
void model(const float input[restrict 1][1][8][8], float output[restrict 1][10]) {
    for (int32_t i = 0; i < 10; i++) output[0][i] = input[0][0][0][i % 8];
}
"""


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_a_build_is_counted(digits: Firmware, core: str) -> None:
    bundle = digits(core)
    given = [random_sample(bundle.abi.inputs, seed) for seed in range(2)]
    took = taken(bundle, given)
    assert took.instructions < took.cycles < 5 * took.instructions
    assert all(near(onnx_runtime(DIGITS), x, y) for x, y in zip(given, took.outputs, strict=True))
    assert bundle.abi.workspace_bytes + took.stack < took.ram < took.flash


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_a_peers_c_runs_on_the_same_board(digits: Firmware, core: str, tmp_path: Path) -> None:
    bundle = digits(core)
    peer = emx_bundle(PEER, bundle.abi.shapes[0], bundle.target, tmp_path / "peer")
    given = random_sample(bundle.abi.inputs, 0)
    took = taken(peer, [given], weights="c")
    want = next(iter(given.values())).ravel()[np.arange(10) % 8]
    np.testing.assert_array_equal(next(iter(took.outputs[0].values())).ravel(), want)
    assert 1e-5 < took.instructions < 1e-3


def test_the_c_of_a_plain_core_runs_here(digits: Firmware, tmp_path: Path) -> None:
    bundle = digits("cortex-m3")
    given = [random_sample(bundle.abi.inputs, seed) for seed in range(2)]
    (name,) = given[0]
    made = run_here(bundle, [x[name] for x in given], tmp_path)
    (output,) = bundle.abi.outputs
    assert all(near(onnx_runtime(DIGITS), x, {output.name: y}) for x, y in zip(given, made, strict=True))
