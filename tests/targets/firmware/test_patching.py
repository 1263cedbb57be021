"""Firmware whose first layers go by in bands: less RAM, the same bits, and only where it is wanted or needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.api import optimize
from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Graph
from graphopt.patching import promising
from graphopt.preparation import legalized
from graphopt.runtime import reference
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.verification import random_sample
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.lower.test_quant import convolved, dequantized, quantized

CORE = [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))]


def wide_first() -> Graph:
    """An image of 3 x 24 x 20 bytes, images of 16 channels as large, then smaller ones."""
    g = Draft()
    around = (1, 1, 1, 1)
    x = g.input(1, 3, 24, 20, dtype=DType.int8)
    x = quantized(g, g.op("Relu", convolved(g, x, 16, 3, pads=around)), -20, np.int8)
    x = quantized(g, g.op("Relu", convolved(g, x, 16, 3, group=16, pads=around)), -20, np.int8)
    x = quantized(g, convolved(g, x, 16, 3, strides=(2, 2), pads=around), 0, np.int8)
    x = quantized(g, convolved(g, x, 8, 3, strides=(2, 2), pads=around), 0, np.int8)
    g.output(quantized(g, g.op("GlobalAveragePool", dequantized(g, x, 0)), 2, np.int8))
    return g.graph


def test_bands_are_promised_where_the_first_images_are_the_largest() -> None:
    ready = legalized(optimize(wide_first()), fixed_point=True)
    patches = list(promising(ready))
    assert patches and all(patch.peak < 16 * 24 * 20 and 0 < patch.more < 1 for patch in patches)
    cheapest = next(promising(ready, most=7000))
    assert cheapest.peak <= 7000 and cheapest.bands < patches[0].bands


@pytest.mark.parametrize("core", CORE)
def test_less_memory_gives_the_same_bits(core: str, tmp_path: Path) -> None:
    whole = graphopt.compile(wide_first(), target=core, out=tmp_path / "whole", name="net")
    bundle = graphopt.compile(wide_first(), target=core, out=tmp_path / "bands", name="net", patch=True)
    told = bundle.report["patched"]
    assert told["arena_bytes_without"] == whole.abi.workspace_bytes and 0 < told["macs_more"] < 1
    assert bundle.abi.workspace_bytes < 0.75 * whole.abi.workspace_bytes
    exact = legalized(optimize(wide_first()), fixed_point=True)
    samples = [random_sample(bundle.abi.inputs, seed) for seed in range(2)]
    module = EmulatedFirmware(bundle, selftest=True)
    for sample, outputs in zip(samples, module.run(samples), strict=True):
        for name, array in reference.run(exact, sample).items():
            np.testing.assert_array_equal(outputs[name], array)


def test_what_does_not_fit_is_patched_unless_forbidden(tmp_path: Path) -> None:
    """Between what the model takes as a whole and what it takes in bands."""
    model, core = wide_first(), "cortex-m4f"
    whole = graphopt.compile(model, target=core, out=tmp_path / "whole")
    assert "patched" not in whole.report
    limit = int(0.9 * whole.abi.workspace_bytes)
    bundle = graphopt.compile(model, target=core, out=tmp_path / "fits", ram=limit)
    assert bundle.report["patched"]["bands"] > 1 and bundle.abi.workspace_bytes <= limit
    with pytest.raises(UnsupportedError) as raised:
        graphopt.compile(model, target=core, out=tmp_path / "none", ram=limit, patch=False)
    assert raised.value.hint is not None and "without --no-patch" in raised.value.hint
    with pytest.raises(UnsupportedError, match=r"--ram allows 512"):
        graphopt.compile(model, target=core, out=tmp_path / "none", ram=512)


@pytest.mark.parametrize("core", CORE)
def test_the_stack_counts_where_the_arena_alone_would_fit(core: str, tmp_path: Path) -> None:
    """One byte less than arena and stack take: bands are tried, and the whole fits."""
    whole = graphopt.compile(wide_first(), target=core, out=tmp_path / "whole")
    needed = sum(
        json.loads((whole.path / "memory.json").read_text())["ram"][k] for k in ("arena", "stack_bound")
    )
    assert whole.abi.workspace_bytes < needed - 1
    bundle = graphopt.compile(wide_first(), target=core, out=tmp_path / "fits", ram=needed - 1)
    told = json.loads((bundle.path / "memory.json").read_text())["ram"]
    assert bundle.report["patched"]["bands"] > 1 and told["arena"] + told["stack_bound"] < needed
    same = graphopt.compile(wide_first(), target=core, out=tmp_path / "before", ram=needed)
    assert "patched" not in same.report
