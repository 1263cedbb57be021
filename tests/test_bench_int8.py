"""Int8 benchmarks: everyone's own file, and the figures that are made of the rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench import cpu, int8
from bench.arm_peers import FLOAT32, INT8, PEERS
from bench.peers import PeerError
from graphopt.onnx_io.write import to_model
from tests.passes.helpers import Draft, made


def test_figures_of_int8() -> None:
    rows = [
        {"model": "resnet18", "threads": 1, "ratio": 0.8, "over float": 2.1, "of library": 0.25},
        {"model": "mobilenet_v2", "threads": 1, "ratio": 0.5, "over float": 1.9, "of library": 0.36},
        {"model": "mlperf_kws_bn_op17", "threads": 1, "ratio": 0.6, "over float": 0.7, "of library": 0.3},
    ]
    found = cpu.figures(rows, [1])
    assert found["geomean_1t_large"] == pytest.approx(math.sqrt(0.4))
    assert (found["geomean_1t_small"], found["worst_1t"]) == (pytest.approx(0.6), 0.8)
    assert (found["int8_over_float_resnet18"], found["int8_over_float_mobilenetv2"]) == (2.1, 1.9)
    assert found["library_of_float"] == pytest.approx((0.25 * 0.36 * 0.3) ** (1 / 3))
    floats = cpu.figures([{"model": "resnet18", "threads": 1, "ratio": 0.8}], [1])
    assert not any(name.startswith(("int8", "library")) for name in floats)


def test_every_runtime_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Path, samples: object, out: Path) -> None:
        raise PeerError("it is not here")

    def copies(model: Path, samples: int8.Samples, out: Path) -> None:
        assert len(samples) == int8.CALIBRATION and samples[0]["x0"].dtype == np.float32
        out.write_bytes(model.read_bytes())

    def build(draft: Draft) -> object:
        return draft.op("MatMul", draft.input(2, 6), draft.weight(6, 4))

    monkeypatch.setattr(int8, "MAKERS", {"A": (".onnx", copies), "B": (".xml", fails)})
    onnx.save(to_model(made(build)), tmp_path / "m.onnx")  # type: ignore[arg-type]
    files, absent = int8.int8_files(tmp_path / "m.onnx", tmp_path)
    assert list(files) == [int8.OURS, "A"] and absent == ["it is not here"]
    ours = {node.op_type for node in onnx.load(files[int8.OURS]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ours


def test_every_model_has_recorded_counts() -> None:
    assert PEERS[INT8].keys() == PEERS[FLOAT32].keys()
