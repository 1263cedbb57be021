"""Recurrences of floats in firmware: weights are packed for pairs of hidden units; the self-test knows none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.api import compile
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Draft
from tests.targets.firmware.native import here

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
STEPS = 1e-6
"""Of an output's scale."""


@pytest.mark.parametrize(("name", "hidden"), [("LSTM", 7), ("GRU", 8), ("RNN", 1)])
def test_states_are_the_references(name: str, hidden: int, tmp_path: Path) -> None:
    draft = Draft()
    rows = GATES[name] * hidden
    weights = draft.weight(1, rows, 3), draft.weight(1, rows, hidden)
    y, *_ = draft.ops(name, draft.input(5, 2, 3), *weights, outputs=2, hidden_size=hidden)
    draft.graph.add_output(draft.op("Relu", y), "y")
    inputs = random_inputs(draft.graph, dims={})
    want = run(draft.graph, inputs)["y"]
    bundle = compile(draft.graph, target="cortex-m4f", out=tmp_path / "fw", name="net", keep_inputs=True)
    assert "if (differs" not in (bundle.path / "net_selftest.c").read_text()
    found = here(bundle, inputs, tmp_path)["y"]
    assert np.abs(found - want).max() <= STEPS * np.abs(want).max()
