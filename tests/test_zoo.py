"""Real trained models through the whole compiler, against ONNX Runtime on their own data.

One model of each kind; `python -m bench.zoo` takes all of them and all of the data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.models import ZOO_SHAPES
from bench.oracles import onnx_runtime
from bench.tasks import samples
from graphopt.runtime.compare import compare_outputs
from graphopt.verification import runner
from tests.targets.conftest import runnable
from tests.zoo import zoo_model

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-4
"""Of the output's scale. Sums of up to a few thousand products, through up to seventy layers."""

MODELS = {
    "mir_onnx2c_mnist_model": "opset 8, padding by auto_pad",
    "mlperf_ad01_bn_op13": "matrix products and batch normalisation",
    "mlperf_ad01_int8_qdq_op13": "quantised matrix products",
    "mlperf_kws_bn_dynbatch_op17": "a symbolic batch, depthwise convolutions",
    "mlperf_resnet8_bn_rawtransposes_op13": "the 29 Transposes of a TensorFlow export, residuals",
    "mlperf_resnet8_int8_qdq_op13": "quantised convolutions and residuals",
    "mlperf_vww96_bn_op17": "MobileNet",
    "pkg_magika_v3_3_b1": "integer input, embedding, GELU spelt out, layer normalisation",
    "pkg_ppocr_cls_static": "opset 11, HardSwish, squeeze and excitation",
    "pkg_silero_vad_openvino_16k": "If, STFT by convolution, a state that goes in and comes out",
    "trn_cifar_mbv_op13": "MobileNetV2",
    "trn_mnist_lstm_op17": "LSTM",
    "trn_mnist_vit_op17": "attention",
}

EMULATED = ("mlperf_kws_bn_op13", "trn_mnist_vit_op13")


@pytest.mark.parametrize("name", MODELS)
def test_this_machine_agrees(name: str, tmp_path: Path) -> None:
    path = zoo_model(name)
    assert_agrees(path, graphopt.compile(path, out=tmp_path / "m", input_shapes=ZOO_SHAPES.get(name)), 10)


@pytest.mark.parametrize("name", EMULATED)
@pytest.mark.parametrize("target", [pytest.param(t, marks=runnable(t)) for t in ("rpi4", "rpi-armv7")])
def test_other_machines_agree(name: str, target: str, tmp_path: Path) -> None:
    path = zoo_model(name)
    assert_agrees(path, graphopt.compile(path, target=target, out=tmp_path / "m"), 2)


def assert_agrees(path: Path, bundle: graphopt.Bundle, count: int) -> None:
    """Outputs within the tolerance; where there are labels, the same answers."""
    specs = {spec.name: (spec.dtype.numpy, spec.shape) for spec in bundle.abi.inputs}
    data = samples(path.stem, specs, split="test", count=count)
    oracle, (run, _) = onnx_runtime(path), runner(bundle)
    assert data.inputs
    for sample in data.inputs:
        want, got = oracle(sample), run(sample)
        compare_outputs(want, got).raise_if_worse_than(TOLERANCE)
        if data.labels is not None:
            scores = next(iter(want))
            assert np.argmax(got[scores]) == np.argmax(want[scores])
