"""Ranges of activations: narrowed where the layers that read them gain, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.passes.quantize import insert_quantization
from graphopt.passes.rounding import search_range
from graphopt.passes.rounding.readers import readers_of
from graphopt.runtime.stacked import Operand
from tests.passes.helpers import Build, Draft, made

HIGH = 40.0


@pytest.fixture(autouse=True, params=[search_range.FIRST_LOOK, 1])
def first_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples, or few at first."""
    monkeypatch.setattr(search_range, "FIRST_LOOK", request.param)


def product(g: Draft) -> Value:
    """Through a move, into a layer."""
    x = g.op("Transpose", g.input(2, 6, 5), perm=(0, 2, 1))
    return g.op("MatMul", x, g.weight(6, 4))


def read_elsewhere(g: Draft) -> Value:
    x = g.input(2, 6, 6)
    total = g.op("Add", x, g.op("MatMul", x, g.weight(6, 6)))
    return g.op("MatMul", total, g.weight(6, 3))


def quantised(build: Build, scheme: str) -> tuple[Graph, Node]:
    graph = made(build)
    bounds = {v.name: (-HIGH, HIGH) for v in graph.values() if not v.is_constant}
    insert_quantization(graph, layers_of(graph, parse_scheme(scheme)), bounds)
    return graph, next(node for node in graph.nodes if node.is_op("QuantizeLinear"))


def values(shape: tuple[int, ...], outliers: float) -> np.ndarray:
    """Small numbers, and as many as that of the ends of the range."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, *shape))
    return np.where(random.uniform(size=x.shape) < outliers, np.sign(x) * HIGH, x).astype(np.float32)


def scale_of(quantize: Node) -> float:
    assert quantize.inputs[1] is not None
    return float(quantize.inputs[1].scalar() or 0)


@pytest.mark.parametrize("scheme", ["int8", "int8{activations=int8}"])
def test_a_range_that_nobody_fills_is_narrowed(scheme: str) -> None:
    graph, quantize = quantised(product, scheme)
    before = scale_of(quantize)
    assert search_range.search_range(quantize, Operand(values((2, 6, 5), 0.0), True))
    assert scale_of(quantize) == pytest.approx(0.4 * before, rel=1e-3)
    dequantize = next(n for n in graph.nodes if n.is_op("DequantizeLinear") and n.inputs[0].constant is None)  # type: ignore[union-attr]
    assert dequantize.inputs[1:] == quantize.inputs[1:]


def test_a_range_that_is_filled_stays() -> None:
    _, quantize = quantised(product, "int8")
    before = quantize.inputs
    assert not search_range.search_range(quantize, Operand(values((2, 6, 5), 0.1), True))
    assert quantize.inputs == before


@pytest.mark.parametrize(("build", "scheme"), [(read_elsewhere, "int8"), (product, "16x8")])
def test_other_ranges_stay(build: Build, scheme: str) -> None:
    _, quantize = quantised(build, scheme)
    x = quantize.inputs[0]
    assert x is not None
    assert not search_range.search_range(quantize, Operand(values(x.static_shape, 0.0), True))


def test_one_end_moves_alone() -> None:
    """Values that fill the upper half alone keep the upper end."""
    _, quantize = quantised(product, "int8")
    full = np.abs(values((2, 6, 5), 0.3))
    assert search_range.search_range(quantize, Operand(full, True))
    scale, zero = scale_of(quantize), quantize.inputs[2].scalar()  # type: ignore[union-attr]
    assert (255 - float(zero or 0)) * scale == pytest.approx(HIGH, rel=0.02)
    assert float(zero or 0) * scale < 0.5 * HIGH


def test_extremes_of_later_samples_count() -> None:
    _, quantize = quantised(product, "int8")
    late = values((2, 6, 5), 0.1)
    late[:35] = values((2, 6, 5), 0.0)[:35]
    assert not search_range.search_range(quantize, Operand(late, True))


def test_a_gain_that_another_sample_may_undo_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number in forty samples is large: clipping it wins, but another one like it would cost more."""
    x = values((2, 6, 5), 0.0)
    x[0, 0, 0, 0] = 18.0
    scales = []
    for caution in (0, search_range.CAUTION):
        monkeypatch.setattr(search_range, "CAUTION", caution)
        _, quantize = quantised(product, "int8")
        search_range.search_range(quantize, Operand(x, True))
        scales.append(scale_of(quantize))
    bold, cautious = scales
    assert 127 * bold < np.abs(x).max() <= 128 * cautious


def alone(g: Draft) -> Value:
    return g.op("Conv", g.input(2, 3, 16), g.weight(4, 3, 1), g.weight(4))


def before_a_maximum(g: Draft) -> Value:
    return g.op("GlobalMaxPool", g.op("Gelu", alone(g), approximate="tanh"))


def test_errors_count_behind_the_layer() -> None:
    """Two numbers in a thousand are a little larger than a narrow range: a maximum picks what they make."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2, 3, 16))
    x = np.where(random.uniform(size=x.shape) < 0.002, np.sign(x) * 16.3, x).astype(np.float32)
    found = []
    for build in (alone, before_a_maximum):
        _, quantize = quantised(build, "int8")
        search_range.search_range(quantize, Operand(x, True))
        found.append(127 * scale_of(quantize))
    assert found[0] < 16 < 19 < found[1], found


def test_what_is_behind_a_layer() -> None:
    """Up to what something else reads too."""

    def chain(g: Draft) -> Value:
        y = g.op("Clip", g.op("Relu", before_a_maximum(g)), None, g.const(3))
        return g.op("Add", y, g.op("Sigmoid", y))

    _, quantize = quantised(chain, "int8")
    (reader,) = readers_of(quantize.output)
    assert [node.op_type for node in reader.behind] == ["Gelu", "GlobalMaxPool", "Relu", "Clip"]
