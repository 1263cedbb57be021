"""docs/calibration.md tells the truth: its Python runs, its lists are whole."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.pipeline import spec_of
from graphopt.runtime.observers import OBSERVERS

PAGE = (Path(__file__).parent.parent / "docs" / "calibration.md").read_text(encoding="utf-8")


def test_its_python_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    nodes = [helper.make_node("GlobalMaxPool", ["x"], ["scores"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 4])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 1, 1])]
    graph = helper.make_graph(nodes, "model", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "model.onnx")
    images, more = random.normal(size=(2, 6, 3, 5, 4)).astype(np.float32)
    np.savez("images.npz", images=images)
    np.savez("more.npz", x=2 * more)
    np.savez("photos.npz", random.integers(0, 256, (300, 5, 4, 3)).astype(np.uint8))
    names: dict[str, object] = {}
    exec("\n".join(line[4:] for line in PAGE.split("\n") if line.startswith("    ")), names)
    ranges, both = names["ranges"], names["both"]
    assert ranges.samples == 200 and ranges["x"].high.tolist() == [1, 1, 1]  # type: ignore[attr-defined]
    assert both.samples == 12 and both["x"].low == min(images.min(), 2 * more.min())  # type: ignore[attr-defined]


def test_it_lists_every_observer_with_its_options() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| .+ \| (?:`(.+)`)? ?\|$", PAGE, re.MULTILINE)
    told = {name: options.split() for name, options in rows if name in OBSERVERS}
    assert list(told) == list(OBSERVERS)
    for name, cls in OBSERVERS.items():
        defaults = [f"{f.name}={str(f.default).lower()}" for f in fields(cls)]
        assert told[name] == defaults, spec_of(name, cls())
