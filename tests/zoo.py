"""The folder of real models and data beside a developer's checkout, and the tests' way to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ZOO = Path(os.environ.get("GRAPHOPT_ZOO", Path(__file__).parent.parent.parent / "shared"))
REASON = "the model zoo is not here (set GRAPHOPT_ZOO to its folder)"


def zoo_models() -> list[Path]:
    """Every model of the zoo, by name; empty when there is no zoo."""
    return sorted((ZOO / "models").glob("*.onnx"))


def zoo_model(name: str) -> Path:
    """The model called `name` (without `.onnx`). Skips the test when it is not here."""
    path = ZOO / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name}: {REASON}")
    return path
