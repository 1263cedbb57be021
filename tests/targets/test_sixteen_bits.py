"""Activations of 16 bits and weights of 8 or 4, from the float model to the library: sums of integers on every machine
that lists them, and the same bits as the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.preparation import legalized
from graphopt.runtime import reference
from graphopt.verification import runner
from tests.passes.helpers import made
from tests.passes.quantization.test_placement import residual
from tests.targets.conftest import runnable
from tests.test_quantization import draws

INSTRUCTIONS = {
    "x86-64-v3": "pmaddwd",
    "x86-64-v4": "pmaddwd",
    "rpi4": "smlal-by-lane",
    "rpi-armv7": "smlal-by-lane",
}


@pytest.mark.parametrize("target", [pytest.param(t, marks=runnable(t)) for t in INSTRUCTIONS])
def test_from_the_float_model_to_the_library(target: str, tmp_path: Path) -> None:
    graph = made(residual)
    samples = draws(graph, 4)
    quantised = graphopt.quantize(graph, samples, scheme="16x8", target=target, methods="none").graph
    bundle = graphopt.compile(quantised, target=target, out=tmp_path / "m")
    schedules = [str(layer["schedule"]) for layer in bundle.report["layers"]]
    assert sum(INSTRUCTIONS[target] in schedule for schedule in schedules) == 4
    execute, _ = runner(bundle)
    prepared = legalized(graphopt.optimize(quantised))
    for sample in samples[:2]:
        want, got = reference.run(prepared, sample), execute(sample)
        for name, right in want.items():
            np.testing.assert_array_equal(got[name], right)
            assert len(np.unique(right)) > 2
