"""Winograd convolutions along one axis, on odd sequences against float64, and when they are chosen.

The tolerance is the bound of error analysis, as in `test_winograd`; all layers of a machine are one library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from graphopt.targets.schedules.templates.winograd_row import MOST_TAPS, WinogradRowConvolution
from graphopt.targets.schedules.templates.winograd_transform import PAIRS, TAPS, Transform
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled
from tests.targets.test_winograd import UNIT, machines, schedules


@dataclass(frozen=True)
class Layer:
    """A convolution over `length` steps; `rows` of them make an image. The input comes channels-last, or in blocks
    from another convolution."""

    channels: int
    filters: int
    length: int
    taps: int
    pads: tuple[int, int] = (0, 0)
    rows: int = 0
    batch: int = 1
    channels_last: bool = False
    outputs: int = 4

    def build(self, draft: Draft) -> None:
        pixels = (self.rows, self.length) if self.rows else (self.length,)
        if self.channels_last:
            x = draft.input(self.batch, *pixels, self.channels)
            x = draft.op("Transpose", x, perm=(0, len(pixels) + 1, *range(1, len(pixels) + 1)))
        else:
            same = np.eye(self.channels).reshape(self.channels, self.channels, *[1] * len(pixels))
            x = draft.op("Conv", draft.input(self.batch, self.channels, *pixels), draft.const(same))
        kernel, pads = (self.taps,), self.pads
        if self.rows:
            kernel, pads = (1, self.taps), (0, pads[0], 0, pads[1])
        w = draft.weight(self.filters, self.channels, *kernel)
        draft.output(draft.op("Conv", x, w, draft.weight(self.filters), pads=pads))


LAYERS = {
    "odd": Layer(19, 21, 27, 5),
    "padded": Layer(16, 40, 30, 5, (2, 2)),
    "uneven": Layer(12, 17, 13, 3, (2, 1), outputs=2),
    "batch": Layer(20, 12, 11, 3, (1, 1), batch=2, outputs=6),
    "channels last": Layer(32, 33, 50, 5, (0, 3), channels_last=True),
    "image": Layer(16, 16, 14, 7, (3, 3), rows=3, outputs=2),
    "image, channels last": Layer(48, 12, 21, 3, (0, 1), rows=2, batch=2, channels_last=True),
    "four taps": Layer(16, 24, 19, 4, (1, 2), outputs=3),
    "short": Layer(16, 16, 2, 5, (2, 2)),
}


def forced(body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> Choice | None:
    """A row wherever it fits, in the shortest chunks and tiles of what the layer asks for."""
    fitting = WinogradRowConvolution.fitting(body, constants, target)
    if fitting is None:
        return choose(body, constants, target)
    layer = next(
        l
        for l in LAYERS.values()
        if (l.channels, l.filters, l.taps) == (fitting.channels, fitting.filters, fitting.window.kernel[1])
    )
    return Choice(fitting, {**fitting.defaults(), "outputs": layer.outputs, "groups": 1})


@pytest.fixture(scope="module")
def network() -> Graph:
    draft = Draft()
    for layer in LAYERS.values():
        layer.build(draft)
    return draft.graph


@pytest.fixture(scope="module", params=list(machines()))
def results(
    request: pytest.FixtureRequest, network: Graph, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    target, _ = machines()[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "choose", lambda *given, **options: forced(*given))
        compiled = compile_model([grouped_for(network, target)], target, "layers")
    assert sum("winograd-row" in schedule for schedule in compiled.schedules.values()) == len(LAYERS)
    made = run_compiled(compiled, random_inputs(network), tmp_path_factory.mktemp("rows"))
    return dict(zip(LAYERS, made.values(), strict=True))


def windows(x: np.ndarray, size: int, step: int, pads: tuple[int, int]) -> np.ndarray:
    """(rows, channels, windows, size) of (rows, channels, length)."""
    padded = np.pad(x, ((0, 0), (0, 0), pads))
    return np.lib.stride_tricks.sliding_window_view(padded, size, axis=2)[:, :, ::step]


def tiled(
    x: np.ndarray, w: np.ndarray, layer: Layer, b: np.ndarray, g: np.ndarray, a: np.ndarray
) -> np.ndarray:
    """By the transforms B, G and A; x is (rows, channels, length), the result (rows, filters, length)."""
    m, size = a.shape
    made = layer.length + sum(layer.pads) - layer.taps + 1
    d = windows(x, size, m, (layer.pads[0], layer.pads[1] + size))[:, :, : -(-made // m)]
    v, u = np.einsum("ki,nchi->nchk", b, d), np.einsum("ki,fci->fck", g, w)
    y = np.einsum("pk,fck,nchk->nfhp", a, u, v, optimize=True)
    return y.reshape(*y.shape[:2], -1)[:, :, :made]


def steps(transform: Transform) -> int:
    """Roundings on the way of a number through both transforms: as many as a row of a stage has entries."""
    stages = (*transform.input_stages, *transform.output_stages)
    return sum(int((stage != 0).sum(axis=1).max()) for stage in stages)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, network: Graph, results: dict[str, np.ndarray]) -> None:
    number, layer = list(LAYERS).index(name), LAYERS[name]
    convolution = network.outputs[number].producer
    assert convolution is not None
    x = random_inputs(network)[network.inputs[number].name].astype(np.float64)
    if layer.channels_last:
        x = np.moveaxis(x, -1, 1)
    if layer.rows:
        x = np.moveaxis(x, 2, 1)
    x = x.reshape(-1, layer.channels, layer.length)
    w, b = (convolution.input(k).constant.astype(np.float64) for k in (1, 2))  # type: ignore[union-attr]
    w, b = w.reshape(layer.filters, layer.channels, layer.taps), b[:, None]
    right = np.einsum("nchk,fck->nfh", windows(x, layer.taps, 1, layer.pads), w, optimize=True) + b
    transform = Transform(layer.outputs, layer.taps)
    roundings = layer.channels + steps(transform) + 3
    magnitudes = [
        np.abs(second) @ np.abs(first) for first, second in (transform.input_stages, transform.output_stages)
    ]
    summed = tiled(np.abs(x), np.abs(w), layer, magnitudes[0], np.abs(transform.filter), magnitudes[1])
    bound = roundings * UNIT * (summed + np.abs(b))
    made = results[name]
    if layer.rows:
        made = np.moveaxis(made, 2, 1).reshape(right.shape)
    assert (np.abs(made - right) <= bound).all()
    wrong = transform.filter.copy()
    wrong[1, 1] *= 1.02
    off = np.abs(made - tiled(x, w, layer, transform.input, wrong, transform.output) - b)
    assert (off > bound).any(), "an entry of G that is off by two percent would go unseen"


TILES = [
    (size + 3 - taps, taps) for size in PAIRS for taps in range(TAPS, MOST_TAPS + 1) if size + 3 - taps > 1
]


@pytest.mark.parametrize(("outputs", "taps"), TILES)
def test_the_transforms_compute_filters(outputs: int, taps: int) -> None:
    transform, random = Transform(outputs, taps), np.random.default_rng(0)
    d, g = random.integers(-9, 9, outputs + taps - 1), random.integers(-9, 9, taps)
    y = transform.output @ ((transform.filter @ g) * (transform.input @ d))
    assert y == pytest.approx(np.correlate(d, g), abs=1e-11)
    assert transform.amplification_in_a_row < LARGEST_AMPLIFICATION / 4


def of_one(layer: Layer) -> Graph:
    draft = Draft()
    layer.build(draft)
    return draft.graph


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "rpi4"])
def test_it_is_chosen_where_it_wins(target: str) -> None:
    chosen = schedules(of_one(Layer(256, 512, 512, 5, channels_last=True)), target)[-1]
    assert chosen.startswith("winograd-row-convolution{outputs=4")
    assert schedules(of_one(Layer(256, 512, 5, 5, channels_last=True)), target)[-1].startswith("direct")


@pytest.mark.parametrize("attributes", [{"strides": (2,)}, {"dilations": (2,)}, {"group": 2}])
def test_what_is_left_alone(attributes: dict[str, Any]) -> None:
    draft = Draft()
    x = draft.op("Conv", draft.input(1, 64, 200), draft.weight(64, 64, 1))
    draft.output(draft.op("Conv", x, draft.weight(64, 64 // attributes.get("group", 1), 5), **attributes))
    assert not any("winograd" in schedule for schedule in schedules(draft.graph, "x86-64-v4"))
