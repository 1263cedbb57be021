"""One layer of an encoder, odd in every size, on several machines: attention, normalisation and Gelu together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import Graph, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.device import load_target
from graphopt.targets.emulated import EmulatedModule
from tests.passes.helpers import UNIT, Draft
from tests.targets.conftest import runnable

TOKENS, HEADS, SIZE = 11, 3, 8
WIDTH = HEADS * SIZE

ROUNDINGS = 160
"""Between input and output: the longest sums, of width and hidden units, and the exponentials, roots and quotients
in between; each rounds to half a unit of numbers no larger than the largest."""


def encoder() -> Graph:
    g = Draft()
    x, mask = g.input(1, TOKENS, WIDTH), g.input(1, 1, 1, TOKENS)
    x = g.op("LayerNormalization", x, g.weight(WIDTH), g.weight(WIDTH))
    operands = [
        _by_heads(g, part)
        for part in g.ops("Split", _linear(g, x, 3 * WIDTH), outputs=3, axis=-1, num_outputs=3)
    ]
    mixed = g.op("Attention", *operands, g.op("Expand", mask, g.ints(1, 1, TOKENS, TOKENS)), scale=SIZE**-0.5)
    joined = g.op("Reshape", g.op("Transpose", mixed, perm=(0, 2, 1, 3)), g.ints(1, TOKENS, WIDTH))
    x = g.op("Add", x, _linear(g, joined, WIDTH))
    hidden = g.op("Gelu", _linear(g, g.op("RMSNormalization", x, g.weight(WIDTH)), 2 * WIDTH + 3))
    g.output(g.op("Add", x, _linear(g, hidden, WIDTH)))
    return g.graph


def _linear(g: Draft, x: Value, width: int) -> Value:
    depth = x.static_shape[-1]
    weights = g.op("Mul", g.weight(depth, width), g.const(depth**-0.5))
    return g.op("Add", g.op("MatMul", x, weights), g.weight(width))


def _by_heads(g: Draft, x: Value) -> Value:
    return g.op("Transpose", g.op("Reshape", x, g.ints(1, TOKENS, HEADS, SIZE)), perm=(0, 2, 1, 3))


@pytest.mark.parametrize(
    "target", ["host", *(pytest.param(name, marks=runnable(name)) for name in ("rpi4", "rpi-armv7"))]
)
def test_it_answers_as_the_reference_does(target: str, tmp_path: Path) -> None:
    graph = encoder()
    inputs = random_inputs(graph)
    (want,) = run(graph, inputs).values()
    bundle = graphopt.compile(graph, target=target, out=tmp_path / "encoder.bundle", name="encoder")
    module = graphopt.Module(bundle.path) if target == "host" else EmulatedModule(bundle)
    (made,) = module(inputs).values()
    assert np.abs(made - want).max() <= ROUNDINGS * UNIT / 2 * np.abs(want).max()


def test_attention_takes_in_the_moves_around_it() -> None:
    grouped = grouped_for(graphopt.optimize(encoder()), load_target("host"))
    bodies = [[m.op_type for m in body_of(n).nodes] for n in grouped.nodes if is_fused(n)]
    (attention,) = [body for body in bodies if "Attention" in body]
    assert sorted(attention) == ["Attention", *["Reshape"] * 3, "Split", *["Transpose"] * 4]
    assert not any("Transpose" in body or "Split" in body for body in bodies if body is not attention)
