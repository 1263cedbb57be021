"""What the whole-pipeline tests run on: the networks written here, and the models of the zoo."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import graphopt
from graphopt.ir import Graph
from tests.networks import NETWORKS
from tests.zoo import zoo_models

ZOO = {path.stem: path for path in zoo_models()}

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "mlperf_kws_bn_dynbatch_op17": {"input": (1, 49, 10, 1)},
    "mlperf_resnet8_bn_dynbatch_op17": {"input": (1, 32, 32, 3)},
    "pkg_magika_v3_3": {"bytes": (1, 2048)},
    "pkg_ppocr_cls": {"x": (1, 3, 48, 192)},
    "pkg_silero_vad_16k_sequence": {"input": (1, 576)},
}
"""Batch one where a model leaves its shapes open."""


@cache
def _source(name: str) -> Graph:
    if name in NETWORKS:
        return graphopt.load(NETWORKS[name]())
    path: Path = ZOO[name]
    return graphopt.load(path, input_shapes=SHAPES.get(name))


def model(name: str) -> Graph:
    """A fresh copy of the network or zoo model of that name, its shapes fixed."""
    return _source(name).clone()
