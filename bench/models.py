"""The models that benchmarks run: those of the zoo, and image and sequence networks with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from bench import sequence, vision
from bench.common import ZOO

ZOO_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "mlperf_kws_bn_dynbatch_op17": {"input": (1, 49, 10, 1)},
    "mlperf_resnet8_bn_dynbatch_op17": {"input": (1, 32, 32, 3)},
    "pkg_magika_v3_3": {"bytes": (1, 2048)},
    "pkg_ppocr_cls": {"x": (1, 3, 48, 192)},
    "pkg_silero_vad_16k_sequence": {"input": (4, 576)},
}
"""Input shapes of the models that leave them open."""


def zoo_models() -> list[Path]:
    """Every model of the zoo, by name. Empty when there is no zoo."""
    return sorted((ZOO / "models").glob("*.onnx"))


LARGE: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet18": vision.resnet18,
    "resnet50": vision.resnet50,
    "mobilenet_v2": vision.mobilenet_v2,
    "mobilenet_v3_large": vision.mobilenet_v3_large,
    "efficientnet_b0": vision.efficientnet_b0,
    "squeezenet1_1": vision.squeezenet,
    "densenet121": vision.densenet121,
    "bert_6x384": sequence.bert,
    "lstm_2x256": sequence.lstm,
}
"""Networks with random weights, images of 224x224 where they take images."""

SMALL = (
    "mlperf_resnet8_bn_op17",
    "mlperf_kws_bn_op17",
    "mlperf_vww96_bn_op17",
    "mlperf_ad01_bn_op17",
    "pkg_magika_v3_3_b1",
    "trn_mnist_vit_op17",
)
"""Models of the zoo that are compared with peers."""


def small_models() -> dict[str, Callable[[], onnx.ModelProto]]:
    """The compared models of the zoo by name; empty when there is no zoo."""
    paths = {name: ZOO / "models" / f"{name}.onnx" for name in SMALL}
    return {name: lambda path=path: onnx.load(path) for name, path in paths.items() if path.is_file()}
