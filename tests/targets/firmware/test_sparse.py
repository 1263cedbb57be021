"""Weights in flash without their zeros: the same bits as numpy's, fewer bytes, and only where that is worth it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphopt.api import compile
from graphopt.ir import DType, Value
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.schedules.templates.channels_last.sparse import Sparse
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.firmware.native import here
from tests.targets.firmware.test_channels_last import assert_same, network, product
from tests.targets.layers.integers import image, requantized, sums

KEPT = 0.12


class Sparsely(Draft):
    """A draft whose matrices and filters of bytes are mostly zero."""

    kept = KEPT

    def const(self, data: object, *arguments: object) -> Value:
        array = np.asarray(data)
        if array.ndim > 1:
            array = np.where(self.random.random(array.shape) < self.kept, array, 0)
        return super().const(array, *arguments)


def sparse(build: Callable[[Draft], Value], kept: float = KEPT) -> Callable[[Draft], Value]:
    def built(draft: Draft) -> Value:
        other = Sparsely.__new__(Sparsely)
        other.__dict__ = {**draft.__dict__, "kept": kept}
        return build(other)

    built.__name__ = build.__name__
    return built


def dense_row(g: Draft) -> Value:
    return product(g, 1, depth=210, width=33, zero=-7, bias=True)


def dense_rows(g: Draft) -> Value:
    """A run that ends within a word, and one of exactly two words, of several rows."""
    return product(g, 7, depth=64, width=24, zero=11)


def filters(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 24, 6, 7), 16, (3, 3), zero=3, pads=(1, 1, 1, 1)))


def grouped_filters(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 48, 5, 5), 32, (3, 3), zero=8, group=2, strides=(2, 2)))


def pointwise(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 64, 3, 5), 24, (1, 1), bias=False))


def short_pointwise(g: Draft) -> Value:
    return requantized(
        g, sums(g, image(g, 1, 40, 4, 5, dtype=DType.int16), 24, (1, 1)), zero=0, dtype=np.int16
    )


BUILDS = (dense_row, dense_rows, filters, grouped_filters, pointwise, short_pointwise)
LAYERS = tuple(map(sparse, BUILDS))


@pytest.mark.parametrize(
    "core", [pytest.param(core, marks=runnable(core)) for core in ("cortex-m4f", "cortex-m3", "rv32imac")]
)
def test_cores_compute_the_same(core: str, tmp_path: Path) -> None:
    graph, inputs, want = network(LAYERS)
    bundle = compile(graph, target=core, out=tmp_path / "fw", name="net")
    schedules = [layer["schedule"] for layer in bundle.report["layers"]]
    assert sum("-sparse" in schedule for schedule in schedules) == len(LAYERS)
    (outputs,) = EmulatedFirmware(bundle).run([inputs])
    assert_same(outputs, want)


def test_plain_c_computes_the_same(tmp_path: Path) -> None:
    """What is printed for a core, compiled for this machine, where bits are looked at one by one."""
    graph, inputs, want = network(LAYERS)
    bundle = compile(graph, target="cortex-m4f", out=tmp_path / "fw", name="net", keep_inputs=True)
    assert "sparse_products_4x1" in (tmp_path / "fw" / "net_kernels.c").read_text()
    assert_same(here(bundle, inputs, tmp_path), want)


def test_layers_of_few_zeros_stay_whole(tmp_path: Path) -> None:
    graph, _, _ = network(BUILDS)
    bundle = compile(graph, target="cortex-m4f", out=tmp_path / "fw", name="net")
    assert not any("-sparse" in layer["schedule"] for layer in bundle.report["layers"])


def test_a_byte_has_its_price(tmp_path: Path) -> None:
    """With 70 % zeros a product of one row saves its bytes; of a convolution with 60 % they are used too often."""
    graph, _, _ = network([sparse(dense_row, 0.3), sparse(filters, 0.4)])
    bundle = compile(graph, target="cortex-m4f", out=tmp_path / "fw", name="net")
    schedules = [layer["schedule"] for layer in bundle.report["layers"]]
    assert sum(s.startswith("channels-last-product-sparse") for s in schedules) == 1
    assert sum(s.startswith("channels-last-convolution-dual") for s in schedules) == 1


@pytest.mark.parametrize("run", [1, 31, 32, 33, 100])
def test_what_lies_in_flash(run: int) -> None:
    """Found again by the table and the bitmaps, as the C function does it."""
    random = np.random.default_rng(run)
    weights = np.where(random.random((3, 2, run)) < 0.3, random.integers(-128, 128, (3, 2, run)), 0)
    packed = Sparse(0.3, "int8", True).pack(weights.astype(np.int8))
    words = -(-run // 32)
    zeros = int((weights == 0).sum())
    assert packed.size == 3 * 4 + 3 * 2 * words * 4 + weights.size - zeros
    for number in range(3):
        offset = int(packed[4 * number : 4 * number + 4].view("<i4")[0])
        values = packed[offset + 8 * words :]
        for channel in range(2):
            bits = packed[offset + 4 * words * channel :][: 4 * words].view("<u4")
            found, taken = np.zeros(run, np.int64), 0
            for k in range(run):
                if bits[k // 32] >> np.uint32(31 - k % 32) & np.uint32(1):
                    found[k], taken = values[taken], taken + 1
            values = values[taken:]
            np.testing.assert_array_equal(found, weights[number, channel])
