"""Concatenations written in place and slices read where they lie: random graphs, and what must not share bytes.

Programs run byte for byte as the memory plan lays them out, groups in numpy (`interpret.py`), kernels compiled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.analysis.liveness import liveness
from graphopt.analysis.storage import JOIN
from graphopt.ir import KERNEL, Graph, Value
from graphopt.onnx_io.write import to_model
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets import arena as arena_module
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target, load_target
from graphopt.targets.emulated import EmulatedModule
from graphopt.targets.plan_memory import Buffer, plan
from tests.passes.helpers import UNIT, Draft
from tests.targets.compiled import run_compiled
from tests.targets.conftest import runnable
from tests.targets.interpret import interpret, laid_out

TERMS = 400
"""Roundings on the way to an element, of all layers together."""


def four_lanes() -> Target:
    return dataclasses.replace(load_target("host"), vector_bits=128)


# --- random graphs ---


def layer(draw: st.DrawFn, g: Draft, made: list[Value]) -> Value:
    """One more value from those that are there; images of one height and width."""
    x = draw(st.sampled_from(made))
    channels = x.static_shape[1]
    same = [v for v in made if v.static_shape == x.static_shape]
    kind = draw(
        st.sampled_from(["conv", "relu", "add", "concat", "concat", "rows", "split", "slice", "flat"])
    )
    if kind == "conv":
        wide = draw(st.sampled_from([3, 4, 8, 12]))
        weights = g.const(g.random.normal(size=(wide, channels, 1, 1)) / np.sqrt(channels))
        return g.op("Conv", x, weights)
    if kind == "relu":
        return g.op("Relu", x)
    if kind == "add":
        return g.op("Mean", x, draw(st.sampled_from(same)))
    if kind == "concat":
        return g.op("Concat", *draw(st.lists(st.sampled_from(made), min_size=1, max_size=4)), axis=1)
    if kind == "rows":
        both = g.op("Concat", x, draw(st.sampled_from(same)), axis=2)
        return g.op("MaxPool", both, kernel_shape=(2, 1), strides=(2, 1))
    if kind == "split" and channels > 1:
        first = draw(st.integers(1, channels - 1))
        parts = g.ops("Split", x, g.ints(first, channels - first), outputs=2, axis=1)
        made.append(parts[0])
        return parts[1]
    if kind == "slice":
        start = draw(st.integers(0, channels - 1))
        return g.op("Slice", x, g.ints(start), g.ints(channels), g.ints(1))
    shape = x.static_shape
    return g.op("Reshape", g.op("Reshape", x, g.ints(shape[0], -1)), g.ints(*shape))


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    g = Draft()
    batch = draw(st.sampled_from([1, 1, 1, 2]))
    made = [g.input(batch, 3, 2, 3), g.input(batch, 8, 2, 3)]
    made.append(g.op("Conv", made[0], g.weight(8, 3, 1, 1)))
    if draw(st.booleans()):
        made.append(g.weight(batch, 4, 2, 3))
    for _ in range(draw(st.integers(2, 10))):
        made.append(layer(draw, g, made))
        if sum(v.size for v in made) > 20000:
            break
    computed = [v for v in made if not v.is_constant]
    outputs = [made[-1], *draw(st.lists(st.sampled_from(computed), max_size=2))]
    for number, value in enumerate(outputs):
        g.graph.add_output(value, f"out{number}")
    return g.graph


def differs(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> bool:
    return any(
        not np.abs(got[name] - want[name]).max() <= TERMS * UNIT * max(np.abs(want[name]).max(), 1e-3)
        for name in want
    )


@settings(max_examples=80, deadline=None)
@given(networks())
def test_every_value_is_intact_until_its_last_reader(graph: Graph) -> None:
    inputs = random_inputs(graph)
    grouped = grouped_for(graph, four_lanes())
    program = laid_out(grouped)
    assert not differs(interpret(grouped, program, inputs), run(graph, inputs))
    assert program.plan.size >= program.plan.lower_bound >= (liveness(grouped).peak_bytes or 0)


# --- what is gone, and what stays ---


def joins(graph: Graph) -> int:
    return sum(node.is_op(JOIN, domain=KERNEL) for node in graph.nodes)


def kernels(graph: Graph) -> list[str]:
    from graphopt.targets.kernels import describe

    return [describe(call.node.attributes["body"]) for call in laid_out(graph).calls]


def dense_block(g: Draft) -> Value:
    """Layers that each read everything before them, as DenseNet's."""
    features = [g.op("Conv", g.input(1, 3, 4, 4), g.weight(8, 3, 1, 1))]
    for _ in range(4):
        joined = g.op("Concat", *features, axis=1) if len(features) > 1 else features[0]
        weights = g.weight(4, joined.static_shape[1], 3, 3)
        features.append(g.op("Conv", g.op("Relu", joined), weights, pads=(1, 1, 1, 1)))
    return g.op("GlobalAveragePool", g.op("Concat", *features, axis=1))


def test_a_dense_block_grows_in_one_buffer() -> None:
    g = Draft()
    g.output(dense_block(g))
    grouped = grouped_for(g.graph, four_lanes())
    program = laid_out(grouped)
    assert not any("Concat" in name or "Identity" in name for name in kernels(grouped))
    assert [count for _, count in program.in_place] == [768, 1024, 1280, 1536]
    assert len({b.region for b in program.plan.buffers if b.region}) == 1
    features = [b for b in program.plan.buffers if b.region]
    assert [(b.offset, b.size) for b in features] == [(0, 512), *((512 + 256 * i, 256) for i in range(4))]


def cross_stage(g: Draft) -> Value:
    """Half of the channels go on by themselves, as in YOLO's C2f."""
    x = g.op("Relu", g.op("Conv", g.input(1, 3, 6, 5), g.weight(16, 3, 1, 1)))
    left, right = g.ops("Split", x, outputs=2, axis=1, num_outputs=2)
    y = g.op("Conv", right, g.weight(8, 8, 3, 3), pads=(1, 1, 1, 1))
    return g.op("Conv", g.op("Concat", left, right, y, axis=1), g.weight(4, 24, 1, 1))


def test_a_stage_that_is_taken_apart_comes_together_in_place() -> None:
    g = Draft()
    g.output(cross_stage(g))
    assert kernels(grouped_for(g.graph, four_lanes())) == ["Conv+Relu", "Conv", "Conv", "Unpack"]


def early(buffer: Buffer) -> Buffer:
    """Forgets who reads the whole later on."""
    return dataclasses.replace(buffer, last=buffer.first + 1) if buffer.region else buffer


def shifted(buffer: Buffer) -> Buffer:
    """Puts the operands of a concatenation one element too far."""
    return dataclasses.replace(buffer, offset=buffer.offset + 4) if buffer.offset else buffer


def unchanged(buffer: Buffer) -> Buffer:
    return buffer


@pytest.mark.parametrize("change", [early, shifted, unchanged])
def test_a_wrong_plan_is_seen(monkeypatch: pytest.MonkeyPatch, change: Callable[[Buffer], Buffer]) -> None:
    g = Draft()
    g.output(dense_block(g))
    grouped = grouped_for(g.graph, four_lanes())
    monkeypatch.setattr(
        arena_module, "plan", lambda buffers, *options: plan([change(b) for b in buffers], *options)
    )
    inputs = random_inputs(g.graph)
    try:
        wrong = differs(interpret(grouped, laid_out(grouped), inputs), run(g.graph, inputs))
    except AssertionError:
        wrong = True
    assert wrong == (change is not unchanged)


# --- compiled ---


def inception(g: Draft) -> Value:
    """Branches, one of them an input and one twice; a part that is an output; a residual over the whole."""
    x = g.op("Conv", g.input(1, 3, 9, 7), g.weight(16, 3, 3, 3), pads=(1, 1, 1, 1))
    left, right = g.ops("Split", x, g.ints(5, 11), outputs=2, axis=1)
    branch = g.op("Relu", g.op("Conv", right, g.weight(16, 11, 1, 1)))
    joined = g.op("Concat", branch, left, branch, x, axis=1)
    y = g.op("Add", g.op("Conv", joined, g.weight(16, 53, 1, 1)), x)
    g.graph.add_output(joined, "joined")
    g.graph.add_output(g.op("Slice", y, g.ints(3), g.ints(9), g.ints(1)), "part")
    return y


def unaligned(g: Draft) -> Value:
    """Operands of odd sizes in a plain buffer: vectors are read and written at any multiple of four bytes."""
    a = g.op("Tanh", g.op("Gemm", g.input(1, 10), g.weight(10, 33)))
    b = g.op("Gemm", a, g.weight(33, 17))
    return g.op("Softmax", g.op("Concat", b, a, g.op("Exp", b), axis=1))


def both() -> Graph:
    g = Draft()
    g.graph.add_output(inception(g), "inception")
    g.graph.add_output(dense_block(g), "dense")
    g.graph.add_output(cross_stage(g), "stage")
    g.graph.add_output(unaligned(g), "unaligned")
    return g.graph


def test_compiled_for_this_machine(tmp_path: Path) -> None:
    graph, target = both(), load_target("host")
    grouped = grouped_for(graph, target)
    assert joins(grouped) >= 5
    compiled = compile_model([grouped], target, "shared")
    inputs = random_inputs(graph)
    assert not differs(run_compiled(compiled, inputs, tmp_path), run(graph, inputs))


@pytest.mark.parametrize("name", [pytest.param("rpi4", marks=runnable("rpi4"))])
def test_compiled_for_another_machine(name: str, tmp_path: Path) -> None:
    graph = both()
    inputs = random_inputs(graph)
    bundle = graphopt.compile(to_model(graph), target=name, out=tmp_path / "shared.bundle")
    assert not differs(EmulatedModule(bundle)(inputs), run(graph, inputs))
