"""Models of the zoo that are quantised here, for microcontrollers: MLPerf Tiny's float files, and trained ones."""

from __future__ import annotations

from pathlib import Path

import graphopt
from bench.tasks import samples
from graphopt.data import input_specs
from graphopt.onnx_io.write import write_model
from graphopt.quantization import quantize

OWN = {
    "resnet8": "mlperf_resnet8_bn_op17",
    "ds_cnn": "mlperf_kws_bn_op17",
    "vww": "mlperf_vww96_bn_op17",
    "autoencoder": "mlperf_ad01_bn_op17",
    "digits_cnn": "trn_digits_cnn_op17",
    "cifar_mbv": "trn_cifar_mbv_op17",
    "cifar_resnets": "trn_cifar_resnets_op13",
    "mnist_lstm": "trn_mnist_lstm_op17",
    "mnist_vit": "trn_mnist_vit_op17",
}
CALIBRATION = 32


def quantised_here(path: Path, folder: Path) -> Path:
    """The int8 file of a float model, under the same name, by which its data is found."""
    graph = graphopt.load(path)
    specs = {spec.name: (spec.dtype.numpy, spec.shape) for spec in input_specs(graph)}
    data = samples(path.stem, specs, split="calib", count=CALIBRATION).inputs
    out = folder / "quantised" / path.name
    out.parent.mkdir()
    write_model(quantize(graph, data, methods="none").graph, out)
    return out
