"""Networks as exporters write them, quantised: whatever they are spelt with, products compute on integers."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.analysis.integers import integer_shares
from graphopt.ir import Graph
from graphopt.onnx_io.write import to_bytes
from graphopt.passes import QUANTIZABLE
from graphopt.runtime.reference import run
from tests.networks import NETWORKS
from tests.passes.models import model
from tests.passes.quantization.quantised import quantised, samples_of

QUANTISED = {"keras_quantised", "qlinear"}
FLOAT = sorted(set(NETWORKS) - QUANTISED)

LEAST = {"bert": 15, "gpt": 15, "llama": 15}
"""dB; random weights of four channels lose more than trained ones."""


def sqnr(graph: Graph, small: Graph) -> float:
    signal = noise = 0.0
    for sample in samples_of(graph):
        want, got = run(graph, sample), run(small, sample)
        for name in want:
            if want[name].dtype.kind == "f":
                signal += np.square(want[name], dtype=np.float64).sum()
                noise += np.square(want[name].astype(np.float64) - got[name]).sum()
    return float(10 * np.log10(signal / noise)) if noise else np.inf


@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize("scheme", ["int8", "dynamic"])
def test_products_compute_on_integers(name: str, scheme: str) -> None:
    graph = graphopt.optimize(model(name), QUANTIZABLE)
    small = quantised(graph, scheme)
    shares = integer_shares(small)
    assert shares.of_weights is not None and shares.of_macs is not None
    if (name, scheme) != ("unet", "dynamic"):  # ONNX has no ConvTranspose of integers
        assert shares.of_weights == 1 and shares.of_macs > 0.99
    assert sqnr(graph, small) > LEAST.get(name, 20)


@pytest.mark.parametrize("name", FLOAT)
def test_onnx_runtime_takes_them(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = graphopt.optimize(model(name), QUANTIZABLE)
    for scheme in ("16x8", "int8{weights=int4 group=4}"):
        data = to_bytes(quantised(graph, scheme))
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        assert session.run(None, samples_of(graph)[0])
