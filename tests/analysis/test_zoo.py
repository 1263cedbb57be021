"""MACs of whole networks, counted layer by layer from their papers."""

from __future__ import annotations

import pytest

from graphopt.analysis.cost import cost_of_graph
from graphopt.api import load
from tests.zoo import zoo_model

STAGE = 16 * 32 * 32 * 16 * 9
"""A convolution of ResNet-8 that keeps its shape: the same at every resolution."""

RESNET8 = (
    16 * 32 * 32 * 3 * 9  # 3 to 16 channels, 32 x 32
    + 2 * STAGE
    + 2 * (STAGE // 2 + STAGE + STAGE // 18)  # halve the image: 3 x 3, 3 x 3, and 1 x 1 beside them
    + 64 * 10
)
DS_CNN = (
    64 * 25 * 5 * 10 * 4  # 64 filters of 10 x 4, stride 2, on 49 x 10
    + 4 * (64 * 125 * 9 + 64 * 125 * 64)
    + 64 * 12
)
AUTOENCODER = 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8)

MOBILENET_QUARTER = (
    8 * 48 * 48 * 27
    + sum(  # (channels in, channels out, image behind): depthwise 3 x 3, then 1 x 1
        size * size * inputs * (9 + outputs)
        for inputs, outputs, size in [
            (8, 16, 48),
            (16, 32, 24),
            (32, 32, 24),
            (32, 64, 12),
            (64, 64, 12),
            (64, 128, 6),
            *[(128, 128, 6)] * 5,
            (128, 256, 3),
            (256, 256, 3),
        ]
    )
    + 256 * 2
)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("mlperf_resnet8_bn_op17", RESNET8),
        ("mlperf_kws_bn_op17", DS_CNN),
        ("mlperf_vww96_bn_op17", MOBILENET_QUARTER),
        ("mlperf_ad01_bn_op17", AUTOENCODER),
    ],
)
def test_mlperf_tiny(name: str, macs: int) -> None:
    assert cost_of_graph(load(zoo_model(name))).macs == macs
