"""Winograd convolutions: the transforms, the kernels on odd layers against float64, and when they are chosen.

The tolerance is the bound of error analysis, for each output from the numbers it is computed of. All layers of a
machine are compiled into one library, chunks as short as they get, so that borders and remainders meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Graph
from graphopt.ir.fused import body_of, is_fused
from graphopt.preparation import grouped_for, legalized
from graphopt.runtime.reference import random_inputs
from graphopt.targets import kernels
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target, load_target
from graphopt.targets.schedules import templates
from graphopt.targets.schedules.templates import Choice, choose
from graphopt.targets.schedules.templates.winograd import (
    LARGEST_AMPLIFICATION,
    OUTPUTS,
    WinogradConvolution,
)
from graphopt.targets.schedules.templates.winograd_transform import PAIRS, Transform
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled

UNIT = 2.0**-24
"""Of one rounding."""

STEPS = 3 + 3
"""Roundings of one transform along one axis at most: three multiply-adds of a first stage, three of a second."""


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution, with what follows it: nothing, Swish, or a residual and Relu."""

    batch: int
    channels: int
    filters: int
    image: tuple[int, int]
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    rest: str = ""

    def build(self, draft: Draft) -> None:
        x = draft.input(self.batch, self.channels, *self.image)
        same = draft.const(np.eye(self.channels).reshape(self.channels, self.channels, 1, 1))
        w, b = draft.weight(self.filters, self.channels, 3, 3), draft.weight(self.filters)
        y = draft.op("Conv", draft.op("Conv", x, same), w, b, pads=self.pads)
        if self.rest == "swish":
            y = draft.op("Swish", y)
        if self.rest == "residual":
            y = draft.op("Relu", draft.op("Add", y, x))
        draft.output(y)


LAYERS = {
    "odd": Layer(1, 19, 21, (7, 13)),
    "unpadded": Layer(1, 16, 40, (9, 10), (0, 0, 0, 0)),
    "uneven": Layer(1, 12, 33, (11, 6), (2, 0, 1, 2)),
    "batch": Layer(3, 24, 24, (5, 6), rest="residual"),
    "gated": Layer(1, 16, 16, (6, 9), rest="swish"),
    "point": Layer(2, 20, 12, (1, 2)),
    "large": Layer(1, 32, 32, (33, 18), rest="residual"),
}


def machines() -> dict[str, tuple[Target, int]]:
    """Register files, and outputs of a tile along an axis."""
    host = dataclasses.replace(load_target("host"), cores=2)
    narrow = dataclasses.replace(host, vector_bits=128, vector_registers=16)
    return {
        "host": (host, 4),
        "4 lanes": (narrow, 2),
        "picks a lane": (dataclasses.replace(narrow, vector_registers=32, multiplies_by_lane=True), 4),
    }


@pytest.fixture(scope="module")
def network() -> Graph:
    draft = Draft()
    for layer in LAYERS.values():
        layer.build(draft)
    return draft.graph


@pytest.fixture(scope="module", params=list(machines()))
def results(
    request: pytest.FixtureRequest, network: Graph, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, np.ndarray]]:
    """Outputs of a tile, and what the kernels of the layers make of random inputs on two threads."""
    target, outputs = machines()[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "choose", lambda *given, **options: forced(*given, outputs))
        compiled = compile_model([grouped_for(network, target)], target, "layers")
    assert sum("winograd" in schedule for schedule in compiled.schedules.values()) == len(LAYERS)
    made = run_compiled(compiled, random_inputs(network), tmp_path_factory.mktemp("winograd"))
    return outputs, dict(zip(LAYERS, made.values(), strict=True))


def forced(body: Graph, constants: Mapping[int, np.ndarray], target: Target, outputs: int) -> Choice | None:
    """Winograd wherever it fits, in the shortest chunks."""
    fitting = WinogradConvolution.fitting(body, constants, target)
    if fitting is None:
        return choose(body, constants, target)
    return Choice(fitting, {**fitting.defaults(), "outputs": outputs, "groups": 1})


@dataclass(frozen=True)
class Expected:
    """What a layer must give, how far it may be off, and what it gives with a wrong transform."""

    right: np.ndarray
    bound: np.ndarray
    wrong: np.ndarray


def expected(network: Graph, name: str, outputs: int) -> Expected:
    """In float64; the bound counts the roundings on the way from a product to the output, and the wrong transform has
    an entry of G off by two percent."""
    number, layer = list(LAYERS).index(name), LAYERS[name]
    x = random_inputs(network)[network.inputs[number].name].astype(np.float64)
    convolution = next(
        node
        for node in network.nodes
        if node.input(1) is not None
        and node.input(1).static_shape[-1:] == (3,)  # type: ignore[union-attr]
        and node.input(0).producer.input(0) is network.inputs[number]  # type: ignore[union-attr]
    )
    w, b = (convolution.input(k).constant.astype(np.float64) for k in (1, 2))  # type: ignore[union-attr]
    transform = Transform(outputs)
    wrong = transform.filter.copy()
    wrong[1, 1] *= 1.02
    b = b[:, None, None]
    right = plain(x, w, layer.pads) + b
    magnitudes = [np.abs(second) @ np.abs(first) for first, second in stages(transform)]
    bound = tiled(x, w, layer.pads, magnitudes[0], np.abs(transform.filter), magnitudes[1], absolute=True)
    bound = (layer.channels + 4 * STEPS + 3) * UNIT * (bound + np.abs(b))
    other = tiled(x, w, layer.pads, transform.input, wrong, transform.output) + b
    return Expected(*finished(layer, x, right, bound, other))


def stages(transform: Transform) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return transform.input_stages, transform.output_stages


def finished(
    layer: Layer, x: np.ndarray, right: np.ndarray, bound: np.ndarray, wrong: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What follows the convolution; Swish is steeper than one by a tenth at most, and rounds a few times."""
    if layer.rest == "swish":
        swish = lambda y: y / (1 + np.exp(-y))  # noqa: E731
        return swish(right), 1.1 * bound + 8 * UNIT * np.abs(right), swish(wrong)
    if layer.rest == "residual":
        y, z = right + x, wrong + x
        return np.maximum(y, 0), bound + UNIT * (np.abs(y) + bound), np.maximum(z, 0)
    return right, bound, wrong


def padded(x: np.ndarray, pads: tuple[int, int, int, int], more: int = 0) -> np.ndarray:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom + more), (left, right + more)))


def plain(x: np.ndarray, w: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(padded(x, pads), (3, 3), axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows, w, optimize=True)


def tiled(
    x: np.ndarray,
    w: np.ndarray,
    pads: tuple[int, int, int, int],
    b: np.ndarray,
    g: np.ndarray,
    a: np.ndarray,
    *,
    absolute: bool = False,
) -> np.ndarray:
    """The convolution by the transforms B, G and A in float64, of magnitudes if `absolute`."""
    m, size = a.shape
    if absolute:
        x, w = np.abs(x), np.abs(w)
    image = padded(x, pads)
    rows, columns = image.shape[2] - 2, image.shape[3] - 2
    windows = np.lib.stride_tricks.sliding_window_view(padded(x, pads, m), (size, size), axis=(2, 3))
    d = windows[:, :, : rows + m - 1 : m, : columns + m - 1 : m][:, :, : -(-rows // m), : -(-columns // m)]
    v = np.einsum("ki,lj,nchwij->nchwkl", b, b, d, optimize=True)
    u = np.einsum("ki,lj,fcij->fckl", g, g, w, optimize=True)
    y = np.einsum("pk,ql,fckl,nchwkl->nfhpwq", a, a, u, v, optimize=True)
    n, f, h, _, across, _ = y.shape
    return y.reshape(n, f, h * m, across * m)[:, :, :rows, :columns]


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, network: Graph, results: tuple[int, dict[str, np.ndarray]]) -> None:
    outputs, made = results
    want = expected(network, name, outputs)
    assert (np.abs(made[name] - want.right) <= want.bound).all()
    off = np.abs(made[name] - want.wrong)
    assert (off > want.bound).any(), "an entry of G that is off by two percent would go unseen"


@pytest.mark.parametrize("outputs", PAIRS)
def test_the_transforms_compute_filters(outputs: int) -> None:
    """On small integers float64 is exact but for the filter's divisions."""
    transform, random = Transform(outputs), np.random.default_rng(0)
    d, g = random.integers(-9, 9, outputs + 2), random.integers(-9, 9, 3)
    y = transform.output @ ((transform.filter @ g) * (transform.input @ d))
    assert y == pytest.approx(np.correlate(d, g), abs=1e-11)
    for matrix in (*transform.input_stages, *transform.output_stages):
        assert (matrix.astype(np.float32) == matrix).all()


def test_what_amplifies_errors_is_left_out() -> None:
    assert OUTPUTS == (2, 4)
    assert max(Transform(m).amplification for m in OUTPUTS) < LARGEST_AMPLIFICATION / 1.5
    assert Transform(6).amplification > 5 * LARGEST_AMPLIFICATION


def schedules(graph: Graph, target: str) -> list[str]:
    """Those of the convolutions, in order."""
    machine = load_target(target)
    nodes = [node for node in grouped_for(graph, machine).nodes if is_fused(node)]
    choices = [choose(body_of(n), kernels.constant_operands(n), machine) for n in nodes]
    return [str(choice) for choice in choices if choice and "convolution" in choice.template.name]


def of_one(layer: Layer) -> Graph:
    draft = Draft()
    layer.build(draft)
    return draft.graph


@pytest.mark.parametrize(
    "target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "rpi3", "rpi4", "rpi5", "rpi-armv7"]
)
def test_it_is_chosen_where_it_wins(target: str) -> None:
    assert "winograd-convolution{outputs=4" in schedules(of_one(Layer(1, 64, 64, (56, 56))), target)[-1]
    assert "direct" in schedules(of_one(Layer(1, 64, 64, (1, 1))), target)[-1]


def test_large_weights_make_tiles_small() -> None:
    deep = of_one(Layer(1, 512, 512, (7, 7)))
    assert "outputs=2" in schedules(deep, "x86-64-v4")[-1]
    assert "outputs=4" in schedules(deep, "rpi4")[-1]


@pytest.mark.parametrize(("features", "outputs"), [(64, 4), (1024, 2)])
def test_weights_of_a_small_model_are_in_caches(features: int, outputs: int) -> None:
    """The same layer, beside a product whose weights are few or many."""
    draft = Draft()
    Layer(1, 64, 64, (8, 8)).build(draft)
    draft.output(draft.op("MatMul", draft.input(1, features), draft.weight(features, features)))
    target = load_target("x86-64-v4")
    compiled = compile_model([grouped_for(draft.graph, target)], target, "net")
    assert any(f"winograd-convolution{{outputs={outputs}" in text for text in compiled.schedules.values())


def test_integers_are_summed_as_they_are() -> None:
    draft = Draft()
    x = draft.input(1, 32, 16, 16, dtype=DType.uint8)
    same = draft.op(
        "DequantizeLinear", draft.const(np.eye(32).reshape(32, 32, 1, 1), np.int8), draft.const(0.5)
    )
    weights = draft.op(
        "DequantizeLinear",
        draft.const(draft.random.integers(-127, 127, (32, 32, 3, 3)), np.int8),
        draft.const(0.01),
    )
    y = draft.op("Conv", draft.op("DequantizeLinear", x, draft.const(0.1)), same)
    y = draft.op("DequantizeLinear", draft.op("QuantizeLinear", y, draft.const(0.1)), draft.const(0.1))
    draft.output(draft.op("Conv", y, weights, pads=(1, 1, 1, 1)))
    found = schedules(legalized(draft.graph), "x86-64-v3")
    assert found and not any("winograd" in schedule for schedule in found)


def test_it_can_be_switched_off() -> None:
    graph, target = of_one(Layer(1, 32, 32, (16, 16))), load_target("host")
    with_it, without = (
        compile_model([grouped_for(graph, target)], target, "net", winograd=on) for on in (True, False)
    )
    assert any("winograd" in schedule for schedule in with_it.schedules.values())
    assert not any("winograd" in schedule for schedule in without.schedules.values())
    assert len(without.weights.blob) < len(with_it.weights.blob)


def test_a_machine_that_cannot_hold_the_weights_is_told_of_smaller_ones() -> None:
    graph = of_one(Layer(1, 256, 256, (14, 14)))
    plain = 4 * 9 * 256 * 256
    target = dataclasses.replace(load_target("rpi4"), ram_mb=2 * plain >> 20)
    with pytest.raises(UnsupportedError, match="a run needs .* MiB.*--no-winograd"):
        compile_model([grouped_for(graph, target)], target, "net")
    smaller = compile_model([grouped_for(graph, target)], target, "net", winograd=False)
    assert len(smaller.weights.blob) < 1.2 * plain
