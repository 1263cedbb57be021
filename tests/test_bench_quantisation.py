"""What bench.quantisation concludes from its rows, and what it keeps of peers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.peers import PeerError
from bench.quantisation import INT8, MODELS, figures
from bench.quantisers import PEERS, Quantiser
from bench.recorded import RECORDED, Kept
from graphopt.onnx_io.write import to_model
from tests.passes.helpers import Draft, made

PURE = {"int8 weights": 100.0, "int8 MACs": 100.0}


def row(model: str, tool: str, **more: float) -> dict:
    return {"model": model, "tool": tool, **more}


def test_every_model_has_a_recorded_peer() -> None:
    assert MODELS.keys() == RECORDED.keys()


def test_the_best_peer_is_now_or_recorded() -> None:
    name = "trn_mnist_lstm"
    recorded = RECORDED[name].sqnr
    peers = [
        row(name, "NNCF", SQNR=recorded + 9, **{"int8 weights": 1.0, "int8 MACs": 1.0}),  # floats, most of it
        row(name, "ORT MinMax per channel", SQNR=recorded + 2, **PURE),
    ]

    def found(ours: float) -> tuple[float, float]:
        made = figures([row(name, INT8, SQNR=ours, loss=0.5, seconds=2.0, **PURE), *peers])
        return made["sqnr_below_best_peer"], made["sqnr_below_best_int8_peer"]

    assert found(recorded + 1) == (1, 1)
    assert found(recorded + 3) == (1, 0)
    assert found(recorded + 10) == (0, 0)


def test_losses_and_seconds() -> None:
    rows = [
        row("trn_cifar_mbv", INT8, SQNR=40.0, loss=-0.2, seconds=3.0),
        row(
            "trn_cifar_mbv",
            "graphopt int4 weights",
            SQNR=20.0,
            loss=1.5,
            seconds=4.0,
            **{"bits a weight": 4.4},
        ),
        row("trn_mnist_vit", INT8, SQNR=40.0, loss=0.1, seconds=5.0),
        row("pkg_ppocr_cls", INT8, note="it failed"),
    ]
    assert figures(rows) == {
        "worst_loss_int8": 0.1,
        "worst_loss_int4_weights": 1.5,
        "most_bits_a_weight": 4.4,
        "models": 2,
        "sqnr_below_best_peer": 0,
        "sqnr_below_best_int8_peer": 0,
        "seconds_per_model": 7.0,
    }


def test_results_of_peers_are_kept_by_version(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    kept = Kept(file)
    old, absent = kept.key("m", "NNCF", "3.4", 100), kept.key("m", "NNCF", "", 100)
    kept[old], kept[absent] = {"SQNR": 12.5}, {"note": "nncf is not installed"}
    again = Kept(file)
    assert again[old] == {"SQNR": 12.5}
    assert absent not in again and again.key("m", "NNCF", "3.5", 100) not in again


def test_a_peer_that_is_missing_or_fails_is_told(tmp_path: Path) -> None:
    def fails(model: Path, samples: object, out: Path) -> None:
        raise RuntimeError("no\nluck")

    onnx.save(to_model(made(lambda draft: draft.op("Relu", draft.input(1, 3)))), tmp_path / "m.onnx")
    for quantiser, said in (
        (Quantiser("no-such-package", fails), "no-such-package is not installed"),
        (Quantiser("numpy", fails), "RuntimeError: no luck"),
    ):
        with pytest.raises(PeerError, match=said):
            quantiser.run(tmp_path / "m.onnx", [], tmp_path / "out.onnx")


def test_onnx_runtimes_quantiser_writes_scales_by_channel(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime.quantization")
    random = np.random.default_rng(0)

    def build(draft: Draft) -> object:
        return draft.op("Conv", draft.input(1, 3, 8, 8), draft.weight(5, 3, 3, 3))

    onnx.save(to_model(made(build)), tmp_path / "m.onnx")  # type: ignore[arg-type]
    data = [{"x0": random.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    for name, scales in (("ORT MinMax per channel", 5), ("ORT MinMax per tensor", 1)):
        PEERS[name].run(tmp_path / "m.onnx", data, tmp_path / "out.onnx")
        stored = {t.name: t for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
        (weights,) = (t for t in stored.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4)
        scale = stored[weights.name.replace("_quantized", "_scale")]
        assert int(np.prod(scale.dims)) == scales
