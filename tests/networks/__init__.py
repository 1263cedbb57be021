"""Small networks the way exporters write them: the blocks that real models are made of, with random weights.

Each is a function of its sizes and a seed that returns a valid `onnx.ModelProto`. `NETWORKS` holds one of each with
its default sizes; every input is static and named.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from tests.networks import convolutional, keras, quantised, recurrent, transformers

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "densenet": convolutional.densenet,
    "efficientnet": convolutional.efficientnet,
    "inception": convolutional.inception,
    "mobilenet_v3": convolutional.mobilenet_v3,
    "shufflenet": convolutional.shufflenet,
    "unet": convolutional.unet,
    "yolo": convolutional.yolo,
    "keras_mobilenet": keras.mobilenet,
    "keras_quantised": keras.quantised,
    "qlinear": quantised.qlinear,
    "keras_dense": keras.dense,
    "flax": keras.flax,
    "magika": keras.magika,
    "voice": recurrent.voice,
    "bert": transformers.bert,
    "gpt": transformers.gpt,
    "llama": transformers.llama,
}
