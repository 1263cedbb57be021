"""What the tests of bundles share: one small model, compiled once for each target that a test names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.targets import emulator
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import list_targets, load_target

Compile = Callable[[str], Bundle]

LINUX = [name for name in list_targets() if not load_target(name).is_firmware]
FIRMWARE = [name for name in list_targets() if load_target(name).is_firmware]
"""Names of the catalog's targets, `host` among the first."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs, two outputs; weights, an arena, parallel loops, and normalisation to fold."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(make_tiny(), path)
    return path


@pytest.fixture(scope="session")
def tiny_samples() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [
        {
            "image": random.normal(size=(1, 3, 24, 24)).astype(np.float32),
            "prior": random.normal(size=(1, 10)).astype(np.float32),
        }
        for _ in range(3)
    ]


@pytest.fixture(scope="session")
def compiled(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """`compiled("rpi4")` is the tiny model's bundle for that target."""
    bundles: dict[str, Bundle] = {}

    def get(target: str) -> Bundle:
        if target not in bundles:
            out = tmp_path_factory.mktemp(target) / "tiny.bundle"
            bundles[target] = graphopt.compile(tiny_model, target=target, out=out)
        return bundles[target]

    return get


@pytest.fixture(scope="session")
def bundle(compiled: Compile) -> Bundle:
    """The tiny model's bundle for this machine."""
    return compiled("host")


@pytest.fixture(scope="session")
def zig_cc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zig's C compiler for this machine as one program, which a build system can be told to use."""
    path = tmp_path_factory.mktemp("zig") / "cc"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang cc "$@"\n')
    path.chmod(0o755)
    return path


def runnable(name: str) -> pytest.MarkDecorator | tuple:
    """Marks for a test of one target: it needs an emulator, and is skipped with the reason where there is none."""
    target = load_target(name)
    if target.is_native:
        return ()
    reason = emulator.missing(target)
    return pytest.mark.qemu, pytest.mark.skipif(reason is not None, reason=reason or "")


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **changes}


def make_tiny() -> onnx.ModelProto:
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.normal(size=shape) / 3).astype(np.float32), name)

    channels = ("scale", "shift", "mean")
    weights = [
        weight("w0", 16, 3, 3, 3),
        *(weight(name, 16) for name in channels),
        numpy_helper.from_array(np.full(16, 0.7, np.float32), "variance"),
        weight("w1", 16, 1, 3, 3),
        weight("w2", 10, 16),
        weight("b2", 10),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], kernel_shape=[3, 3], pads=[1] * 4, name="first"),
        helper.make_node("BatchNormalization", ["c0", *channels, "variance"], ["n0"], name="normal"),
        helper.make_node("Relu", ["n0"], ["features"], name="positive"),
        helper.make_node(
            "Conv",
            ["features", "w1"],
            ["c1"],
            kernel_shape=[3, 3],
            group=16,
            strides=[2, 2],
            name="depthwise",
        ),
        helper.make_node("Sigmoid", ["c1"], ["s1"], name="gate"),
        helper.make_node("ReduceMean", ["s1"], ["flat"], axes=[2, 3], keepdims=0, name="pool"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["logits"], transB=1, name="classify"),
        helper.make_node("Add", ["logits", "prior"], ["sum"], name="believe"),
        helper.make_node("Softmax", ["sum"], ["probabilities"], axis=-1, name="normalise"),
    ]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 24]),
        helper.make_tensor_value_info("prior", TensorProto.FLOAT, [1, 10]),
    ]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 16, 24, 24]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
