"""The templates' layers on other machines, under emulation: every target takes a share of them.

What the registers, multiply-adds and prefetches of a target make of a kernel shows on that target alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.emulated import EmulatedModule
from tests.passes.helpers import UNIT, Draft
from tests.targets.conftest import runnable
from tests.targets.layers import LAYERS
from tests.targets.test_templates import TERMS

TARGETS = ("rpi4", "rpi-armv7", "rpi3")
SHARES = 4
THREADS = 2


@pytest.mark.parametrize("name", [pytest.param(name, marks=runnable(name)) for name in TARGETS])
def test_layers(name: str, tmp_path: Path) -> None:
    every = [build for layers in LAYERS.values() for build in layers]
    draft = Draft()
    for build in every[TARGETS.index(name) :: SHARES]:
        draft.graph.add_output(build(draft), build.__name__)
    inputs = random_inputs(draft.graph)
    right = run(draft.graph, inputs)
    module = EmulatedModule(graphopt.compile(draft.graph, target=name, out=tmp_path / "layers.bundle"))
    module.set_num_threads(THREADS)
    for layer, made in module(inputs).items():
        error = np.abs(made - right[layer]).max()
        assert error <= TERMS * UNIT * np.abs(right[layer]).max(), layer
