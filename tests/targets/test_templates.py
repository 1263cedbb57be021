"""Templates: kernels built for blocked images and packed weights, against the reference, odd sizes first.

All layers of a machine (`layers/`, a file for each template) are compiled into one library. The machines are this one,
and this one told that it has fewer lanes and registers, or a multiply-add that picks a lane.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import is_fused
from graphopt.ir.types import TensorType
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target, load_target
from tests.passes.helpers import UNIT, Draft
from tests.targets.compiled import run_compiled
from tests.targets.layers import LAYERS, convolutions, pools
from tests.targets.layers.base import Layer, conv, in_blocks, prepared

TERMS = 1200
"""The longest sum of all layers: rounding errors add up to at most so many units of the largest partial sum."""


def machines() -> dict[str, Target]:
    host = load_target("host")
    narrow = dataclasses.replace(host, vector_bits=128, vector_registers=16, l1_bytes=2048)
    return {
        "host": host,
        "4 lanes": narrow,
        "picks a lane": dataclasses.replace(narrow, vector_registers=32, multiplies_by_lane=True),
    }


@pytest.fixture(scope="module")
def network() -> tuple[Graph, dict[str, np.ndarray]]:
    """All layers side by side, and what they must give."""
    draft = Draft()
    for layers in LAYERS.values():
        for build in layers:
            value = build(draft)
            draft.graph.add_output(value, build.__name__)
    return draft.graph, run(draft.graph, random_inputs(draft.graph))


@pytest.fixture(scope="module", params=list(machines()))
def results(
    request: pytest.FixtureRequest,
    network: tuple[Graph, dict[str, np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, np.ndarray]:
    graph, _ = network
    target = machines()[request.param]
    compiled = compile_model([grouped_for(graph, target)], target, "layers")
    return run_compiled(compiled, random_inputs(graph), tmp_path_factory.mktemp("layers"))


@pytest.mark.parametrize("name", [build.__name__ for layers in LAYERS.values() for build in layers])
def test_layer(
    name: str, results: dict[str, np.ndarray], network: tuple[Graph, dict[str, np.ndarray]]
) -> None:
    want = network[1][name]
    error = np.abs(results[name] - want).max()
    assert error <= TERMS * UNIT * np.abs(want).max()


@pytest.mark.parametrize(
    ("template", "build"), [(name, build) for name, layers in LAYERS.items() for build in layers]
)
def test_the_template_is_chosen(template: str, build: Layer) -> None:
    draft = Draft()
    draft.output(build(draft))
    target = load_target("x86-64-v3")
    assert template in {
        name for node in grouped_for(draft.graph, target).nodes for name in chosen(node, target)
    }


def small_image(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 4, 5)
    return g.op("Add", conv(g, prepared(g, x), 24, (1, 1)), x)


def few_filters(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 9, 9)
    return g.op("Add", conv(g, prepared(g, x), 8, (1, 1)), conv(g, x, 8, (1, 1)))


def overlapping_windows(g: Draft) -> Value:
    x, window = in_blocks(g, 1, 24, 9, 9), {"kernel_shape": (3, 3), "strides": (2, 2)}
    return g.op("Add", g.op("AveragePool", prepared(g, x), **window), g.op("MaxPool", x, **window))


@pytest.mark.parametrize("build", [small_image, few_filters, overlapping_windows])
def test_inputs_are_prepared_once_where_they_are_read_often(build: Layer) -> None:
    draft = Draft()
    draft.output(build(draft))
    assert "Mul+Add+Relu" in kernels(draft, load_target("x86-64-v3"))


@pytest.mark.parametrize(
    ("build", "kernel"),
    [
        (convolutions.pre_activation, "Mul+Add+Relu+Conv+Add"),
        (convolutions.gated_input, "Mul+Conv+Sigmoid"),
        (convolutions.pre_activation_in_one_dimension, "HardSwish+Conv"),
        (pools.average_pool_of_activations, "Mul+Add+Relu+AveragePool"),
        (pools.global_pool_of_activations, "Mul+Add+Relu+Mul+GlobalMaxPool"),
    ],
)
def test_inputs_are_prepared_as_they_are_read(build: Layer, kernel: str) -> None:
    draft = Draft()
    draft.output(build(draft))
    assert kernel in kernels(draft, load_target("x86-64-v3"))


def kernels(draft: Draft, target: Target) -> set[str]:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import describe

    grouped = grouped_for(draft.graph, target)
    return {describe(body_of(node)) for node in grouped.nodes if is_fused(node)}


def chosen(node: Node, target: Target) -> list[str]:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import constant_operands
    from graphopt.targets.schedules.templates import choose

    if not is_fused(node):
        return []
    choice = choose(body_of(node), constant_operands(node), target)
    return [choice.template.name] if choice else []


def test_a_wrong_weight_is_seen(
    network: tuple[Graph, dict[str, np.ndarray]], results: dict[str, np.ndarray]
) -> None:
    want = network[1]["odd_channels"]
    assert np.abs(results["odd_channels"] * 1.001 - want).max() > TERMS * UNIT * np.abs(want).max()


def test_decisions_hold_the_defaults() -> None:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import constant_operands
    from graphopt.targets.schedules.templates import choose

    for layers in LAYERS.values():
        for build in layers:
            draft = Draft()
            draft.output(build(draft))
            for target in machines().values():
                for node in grouped_for(draft.graph, target).nodes:
                    choice = (
                        choose(body_of(node), constant_operands(node), target) if is_fused(node) else None
                    )
                    if choice is not None:
                        space = choice.template.decisions()
                        assert space.keys() == choice.decision.keys()
                        assert all(value in space[key] for key, value in choice.decision.items())


def test_types_of_outputs_stay_plain(network: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, _ = network
    grouped = grouped_for(graph, load_target("host"))
    assert [v.type for v in grouped.outputs] == [v.type for v in graph.outputs]
    assert all(isinstance(v.type, TensorType) and v.type.layout is None for v in grouped.outputs)
