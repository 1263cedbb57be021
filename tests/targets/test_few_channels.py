"""Images of a few channels in one block of bytes: against numpy, from every type and either order of the axes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from graphopt.ir import KERNEL, DType, Graph
from graphopt.ir.fused import body_of, is_fused
from graphopt.ir.layout import blocked_type
from graphopt.runtime.reference import run
from graphopt.targets.aot import compile_model
from graphopt.targets.device import load_target
from graphopt.targets.fuse import fuse
from graphopt.targets.kernels import constant_operands
from graphopt.targets.schedules.templates import choose
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled

IMAGES = ((1, 3, 5, 7), (2, 1, 4, 9), (1, 4, 4, 4), (1, 8, 3, 11), (1, 6, 40))
"""Runs of 16 pixels that end with the image, and that do not; blocks of 4 and 8; a row."""

KINDS = tuple(product(("bytes", "other sign", "floats"), ("channels first", "channels last"), IMAGES))


def network() -> Graph:
    g = Draft()
    for kind, order, shape in KINDS:
        batch, channels, *image = shape
        last = order == "channels last"
        dtype = DType.float32 if kind == "floats" else DType.uint8
        x = g.input(*((batch, *image, channels) if last else shape), dtype=dtype)
        if kind == "other sign":
            x = g.op("Cast", g.op("BitwiseXor", x, g.const(128, np.uint8)), to=DType.int8.onnx_code)
        if last:
            x = g.op("Transpose", x, perm=(0, len(shape) - 1, *range(1, len(shape) - 1)))
        if kind == "floats":
            x = g.op("QuantizeLinear", g.op("Clip", x, g.const(-4.0)), g.const(0.05), g.const(90, np.uint8))
        assert x.type is not None
        types = (blocked_type(x.type, 4 if channels <= 4 else 8),)
        g.output(*g.ops("Pack", x, outputs=1, domain=KERNEL, types=types))
    return g.graph


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The template, the right answer and ours."""
    graph, random = network(), np.random.default_rng(4)
    inputs = {
        v.name: random.normal(0, 3, v.static_shape).astype(np.float32)
        if v.dtype is DType.float32
        else random.integers(0, 256, v.static_shape).astype(np.uint8)
        for v in graph.inputs
    }
    want = run(graph, inputs)
    fuse(graph)
    target = load_target("host")
    groups = [node for node in graph.nodes if is_fused(node)]
    chosen = {node.output: choose(body_of(node), constant_operands(node), target) for node in groups}
    names = [choice.template.name if (choice := chosen[v]) else "" for v in graph.outputs]
    got = run_compiled(compile_model([graph], target, "net"), inputs, tmp_path_factory.mktemp("net"))
    return list(zip(names, want.values(), got.values(), strict=True))


@pytest.mark.parametrize("number", range(len(KINDS)), ids=["-".join(map(str, kind)) for kind in KINDS])
def test_equals_the_reference(number: int, results: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    name, want, got = results[number]
    assert name == "few-channels"
    assert len(np.unique(want)) > 8
    np.testing.assert_array_equal(got, want)


def test_more_channels_are_left_to_others() -> None:
    g = Draft()
    x = g.input(1, 20, 4, 4, dtype=DType.uint8)
    assert x.type is not None
    g.output(*g.ops("Pack", x, outputs=1, domain=KERNEL, types=(blocked_type(x.type, 16),)))
    fuse(g.graph)
    group = g.graph.last
    assert group is not None
    choice = choose(body_of(group), {}, load_target("host"))
    assert choice is None or choice.template.name != "few-channels"
