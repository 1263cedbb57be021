"""Floats to bytes on every kind of machine: ties, what is out of range, zero points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import Value
from graphopt.verification import runner
from tests.passes.helpers import Draft, made
from tests.targets.conftest import runnable

EDGES = (0.0, -0.0, 127.49999, 127.5, 1e6, 32767.5, 65536.5, 2147483520.0, 2147483648.0, 1e10, 3e38, np.inf)

TARGETS = [pytest.param(t, marks=runnable(t)) for t in ("host", "x86-64-v2", "rpi4", "rpi-armv7")]


def numbers() -> np.ndarray:
    """Every half and its neighbours around the range of a byte, and numbers far beyond it; an odd number of them."""
    halves = np.arange(-600, 601, dtype=np.float32) / 2
    beside = [np.nextafter(halves, np.float32(direction)) for direction in (-np.inf, np.inf)]
    edges = np.array([*EDGES, *(-e for e in EDGES)], np.float32)
    return np.concatenate([halves, *beside, edges]).astype(np.float32)


def saturated(x: np.ndarray, zero: int, dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.clip(np.rint(x.astype(np.float64)) + zero, info.min, info.max).astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
def test_bytes(target: str, tmp_path: Path) -> None:
    x = numbers()

    def build(g: Draft) -> Value:
        value = g.input(x.size)
        one = g.const(1.0)
        g.output(g.op("QuantizeLinear", value, one, g.const(-11, np.int8)))
        g.output(g.op("QuantizeLinear", value, one, g.const(0, np.int8)))
        result = g.op("QuantizeLinear", value, one, g.const(200, np.uint8))
        g.output(result)
        return result

    run, _ = runner(graphopt.compile(made(build), target=target, out=tmp_path / "m"))
    signed, around_zero, unsigned = run({"x0": x}).values()
    np.testing.assert_array_equal(signed, saturated(x, -11, np.int8))
    np.testing.assert_array_equal(around_zero, saturated(x, 0, np.int8))
    np.testing.assert_array_equal(unsigned, saturated(x, 200, np.uint8))
