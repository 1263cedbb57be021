"""Winograd convolutions with strides of two: the transforms, the kernels on odd layers against float64, the choice.

The tolerance is the bound of error analysis, as in `test_winograd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from graphopt.ir import Graph
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target
from graphopt.targets.schedules import templates
from graphopt.targets.schedules.templates import Choice, choose
from graphopt.targets.schedules.templates.winograd import LARGEST_AMPLIFICATION
from graphopt.targets.schedules.templates.winograd_strided import STRIDED_OUTPUTS, WinogradStridedConvolution
from graphopt.targets.schedules.templates.winograd_transform import StridedTransform, Transform
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled
from tests.targets.test_winograd import STEPS, UNIT, machines, padded, schedules


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution of every second pixel; with Relu, or without anything behind it."""

    batch: int
    channels: int
    filters: int
    image: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 1, 1)
    relu: bool = False

    def build(self, draft: Draft) -> None:
        x = draft.input(self.batch, self.channels, *self.image)
        same = draft.const(np.eye(self.channels).reshape(self.channels, self.channels, 1, 1))
        w, b = draft.weight(self.filters, self.channels, 3, 3), draft.weight(self.filters)
        y = draft.op("Conv", draft.op("Conv", x, same), w, b, pads=self.pads, strides=(2, 2))
        draft.output(draft.op("Relu", y) if self.relu else y)


LAYERS = {
    "even": Layer(1, 20, 21, (18, 22)),
    "odd": Layer(1, 16, 40, (13, 17), (1, 1, 1, 1), relu=True),
    "unpadded": Layer(1, 24, 33, (12, 9), (0, 0, 0, 0)),
    "uneven": Layer(1, 16, 16, (11, 14), (2, 0, 1, 2)),
    "batch": Layer(3, 24, 20, (7, 6), relu=True),
    "point": Layer(2, 20, 24, (2, 3)),
}


@pytest.fixture(scope="module")
def network() -> Graph:
    draft = Draft()
    for layer in LAYERS.values():
        layer.build(draft)
    return draft.graph


@pytest.fixture(
    scope="module", params=[("host", 4), ("host", 3), ("4 lanes", 2), ("picks a lane", 4)], ids=str
)
def results(
    request: pytest.FixtureRequest, network: Graph, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, np.ndarray]]:
    """Outputs of a tile, and what the kernels of the layers make of random inputs on two threads."""
    machine, outputs = request.param
    target, _ = machines()[machine]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "choose", lambda *given, **options: forced(*given, outputs))
        compiled = compile_model([grouped_for(network, target)], target, "layers")
    assert sum("winograd-strided" in schedule for schedule in compiled.schedules.values()) == len(LAYERS)
    made = run_compiled(compiled, random_inputs(network), tmp_path_factory.mktemp("winograd"))
    return outputs, dict(zip(LAYERS, made.values(), strict=True))


def forced(body: Graph, constants: Mapping[int, np.ndarray], target: Target, outputs: int) -> Choice | None:
    """Winograd wherever it fits, in the shortest chunks."""
    fitting = WinogradStridedConvolution.fitting(body, constants, target)
    if fitting is None:
        return choose(body, constants, target)
    return Choice(fitting, {**fitting.defaults(), "outputs": outputs, "groups": 1})


def tiled(
    image: np.ndarray, w: np.ndarray, result: tuple[int, int], transforms: list[np.ndarray]
) -> np.ndarray:
    """The convolution of a padded image by the transforms B, G and A in float64."""
    b, g, a = transforms
    m, size = a.shape
    tiles = [-(-length // m) for length in result]
    beyond = [max(2 * m * n + 1 - length, 0) for n, length in zip(tiles, image.shape[2:], strict=True)]
    image = np.pad(image, ((0, 0), (0, 0), (0, beyond[0]), (0, beyond[1])))
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(2, 3))
    d = windows[:, :, :: 2 * m, :: 2 * m][:, :, : tiles[0], : tiles[1]]
    v = np.einsum("ki,lj,nchwij->nchwkl", b, b, d, optimize=True)
    u = np.einsum("ki,lj,fcij->fckl", g, g, w, optimize=True)
    y = np.einsum("pk,ql,fckl,nchwkl->nfhpwq", a, a, u, v, optimize=True)
    n, f, h, _, across, _ = y.shape
    return y.reshape(n, f, h * m, across * m)[:, :, : result[0], : result[1]]


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, network: Graph, results: tuple[int, dict[str, np.ndarray]]) -> None:
    outputs, made = results
    number, layer = list(LAYERS).index(name), LAYERS[name]
    image = padded(random_inputs(network)[network.inputs[number].name].astype(np.float64), layer.pads)
    convolution = next(
        node
        for node in network.nodes
        if node.ints("strides") and node.inputs[0].producer.inputs[0] is network.inputs[number]  # type: ignore[union-attr]
    )
    w, b = (convolution.inputs[k].constant.astype(np.float64) for k in (1, 2))  # type: ignore[union-attr]
    b = b[:, None, None]
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    right = np.einsum("nchwij,fcij->nfhw", windows, w, optimize=True) + b
    result = right.shape[2:]
    transform = StridedTransform(outputs)
    magnitudes = [
        np.abs(second) @ np.abs(first) for first, second in (transform.input_stages, transform.output_stages)
    ]
    absolute = [magnitudes[0], np.abs(transform.filter), magnitudes[1]]
    bound = tiled(np.abs(image), np.abs(w), result, absolute) + np.abs(b)
    bound *= (layer.channels + 4 * STEPS + 3) * UNIT
    wrong = transform.filter.copy()
    wrong[1, 2] *= 1.02
    other = tiled(image, w, result, [transform.input, wrong, transform.output]) + b
    if layer.relu:
        right, other = np.maximum(right, 0), np.maximum(other, 0)
    assert (np.abs(made[name] - right) <= bound).all()
    assert (np.abs(made[name] - other) > bound).any(), (
        "an entry of G that is off by two percent would go unseen"
    )


@pytest.mark.parametrize("outputs", STRIDED_OUTPUTS)
def test_the_transforms_compute_filters(outputs: int) -> None:
    """On small integers float64 is exact but for the filter's divisions."""
    transform, random = StridedTransform(outputs), np.random.default_rng(0)
    d, g = random.integers(-9, 9, transform.inputs), random.integers(-9, 9, 3)
    y = transform.output @ ((transform.filter @ g) * (transform.input @ d))
    assert y == pytest.approx(np.correlate(d, g)[::2], abs=1e-11)
    for matrix in (*transform.input_stages, *transform.output_stages):
        assert (matrix.astype(np.float32) == matrix).all()


def test_errors_grow_less_than_without_strides() -> None:
    assert max(StridedTransform(m).amplification for m in STRIDED_OUTPUTS) < Transform(4).amplification / 3
    assert Transform(4).amplification < LARGEST_AMPLIFICATION


def of_one(layer: Layer) -> Graph:
    draft = Draft()
    layer.build(draft)
    return draft.graph


@pytest.mark.parametrize(
    "target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "rpi3", "rpi4", "rpi5", "rpi-armv7"]
)
def test_it_is_chosen_where_it_wins(target: str) -> None:
    assert (
        "winograd-strided-convolution{outputs=4" in schedules(of_one(Layer(1, 64, 64, (56, 56))), target)[-1]
    )
    assert "direct" in schedules(of_one(Layer(1, 64, 64, (2, 2))), target)[-1]


def test_other_strides_are_direct() -> None:
    draft = Draft()
    x = draft.op("Conv", draft.input(1, 3, 57, 57), draft.weight(32, 3, 1, 1))
    for strides in ((3, 3), (2, 1)):
        draft.output(draft.op("Conv", x, draft.weight(32, 32, 3, 3), strides=strides))
    assert not any("winograd" in schedule for schedule in schedules(draft.graph, "x86-64-v3"))
