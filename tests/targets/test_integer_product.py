"""Products of bytes by every instruction: what the reference says to the bit, odd sizes and extreme numbers first."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from graphopt.ir import DType, Graph, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.preparation import legalized
from graphopt.runtime.reference import run
from graphopt.targets.device import Target, load_target
from graphopt.targets.fuse import fuse
from graphopt.targets.kernels import constant_operands
from graphopt.targets.schedules.templates import choose, integer_product
from graphopt.targets.schedules.templates.dot import PACKINGS, Dot, FewBitsDot, in_few_bits
from graphopt.targets.schedules.templates.dot.portable import PortableDot
from graphopt.targets.schedules.templates.dot.vnni import QuadDot
from graphopt.targets.schedules.templates.integer_batches import IntegerBatches
from graphopt.targets.schedules.templates.integer_panels import Reading
from graphopt.targets.schedules.templates.integer_product import IntegerProduct
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.raw_kernels import Call, run_kernels

Layer = Callable[[Draft], Value]

X_SCALE = 0.05


def rows(g: Draft, *shape: int, dtype: DType = DType.uint8, zero: int = 130) -> Value:
    x = g.input(*shape, dtype=dtype)
    return g.op("DequantizeLinear", x, g.const(X_SCALE), g.const(zero, dtype.numpy))


def times(g: Draft, x: Value, width: int, *, low: int = -127, bias: bool = False, zero: int = 0) -> Value:
    """The product with weights that are extreme or random, a scale for each column."""
    depth = x.static_shape[-1]
    data = g.random.integers(low, 128, (depth, width))
    data = np.where(g.random.random(data.shape) < 0.3, g.random.choice((low, 127), data.shape), data)
    scale = g.random.uniform(0.5, 1.0, width) / (500 * np.sqrt(depth))
    return product(g, x, data, scale, np.full(width, zero), bias)


def product(g: Draft, x: Value, data: np.ndarray, scale: np.ndarray, zeros: np.ndarray, bias: bool) -> Value:
    """With weights of bytes, a scale and a zero point for each column."""
    w = g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale), g.const(zeros, np.int8), axis=1)
    y = g.op("MatMul", x, w)
    if bias:
        numbers = g.const(g.random.integers(-9999, 9999, len(scale)), np.int32)
        units = g.const((scale.astype(np.float32) * np.float32(X_SCALE)).astype(np.float32))
        y = g.op("Add", y, g.op("DequantizeLinear", numbers, units, axis=0))
    return y


def as_bytes(g: Draft, y: Value, dtype: type = np.uint8, zero: int = 120) -> Value:
    return g.op("QuantizeLinear", y, g.const(0.03), g.const(zero, dtype))


def odd_rows(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 5, 37), 29, bias=True))


def single_row(g: Draft) -> Value:
    return as_bytes(g, g.op("Relu", times(g, rows(g, 1, 300, zero=0), 137)), zero=0)


def single_column(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 17, 9, dtype=DType.int8, zero=-7), 1), np.int8, -3)


def whole_steps(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 2, 13, 64, dtype=DType.int8, zero=5), 48, bias=True), np.int8, 11)


def whole_steps_of_unsigned(g: Draft) -> Value:
    return as_bytes(g, g.op("HardSwish", times(g, rows(g, 11, 32, zero=3), 80)))


def lowest_weights(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 3, 48, dtype=DType.int8, zero=-128), 20, low=-128), np.int8, 0)


def wide_weights(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 4, 24, zero=9), 21, zero=-50))


FOUR, THREE, TWO = (-8, -3, 0, 2, 7), (-4, -1, 0, 2, 3), (-2, -1, 0, 1)


def of_few_bits(
    g: Draft, x: Value, width: int, *, bias: bool = False, levels: tuple[int, ...] = FOUR
) -> Value:
    """The product with weights between the ends of `levels`, moved in each column so that zero stays among them."""
    depth = x.static_shape[-1]
    zeros = np.arange(width) * 5 % (levels[-1] - levels[0] + 1) + levels[0]
    data = g.random.choice(levels, (depth, width))
    scale = g.random.uniform(0.5, 1.0, width) / (60 * np.sqrt(depth))
    return product(g, x, data, scale, zeros, bias)


def packed_odd_rows(g: Draft) -> Value:
    return as_bytes(g, of_few_bits(g, rows(g, 5, 37), 29, bias=True))


def packed_single_row(g: Draft) -> Value:
    return as_bytes(g, of_few_bits(g, rows(g, 1, 300, zero=0), 137), zero=90)


def packed_whole_steps(g: Draft) -> Value:
    x = rows(g, 2, 13, 64, dtype=DType.int8, zero=5)
    return as_bytes(g, of_few_bits(g, x, 48, bias=True), np.int8, 11)


def packed_in_three_bits(g: Draft) -> Value:
    return as_bytes(g, of_few_bits(g, rows(g, 7, 43), 29, bias=True, levels=THREE))


def packed_in_two_bits(g: Draft) -> Value:
    x = rows(g, 2, 13, 64, dtype=DType.int8, zero=5)
    return as_bytes(g, of_few_bits(g, x, 48, bias=True, levels=TWO), np.int8, 11)


def of_shorts(g: Draft) -> Value:
    y = times(g, rows(g, 5, 37, dtype=DType.int16, zero=0), 29)
    return g.op("QuantizeLinear", y, g.const(0.02), g.const(0, np.int16))


def packed_of_shorts(g: Draft) -> Value:
    y = of_few_bits(g, rows(g, 2, 13, 64, dtype=DType.int16, zero=3), 48)
    return g.op("QuantizeLinear", y, g.const(0.02), g.const(0, np.int16))


def residual(g: Draft) -> Value:
    y = times(g, rows(g, 2, 3, 7, 20), 33)
    return as_bytes(g, g.op("Add", y, rows(g, 2, 3, 7, 33, zero=100)))


def floats(g: Draft) -> Value:
    return times(g, rows(g, 6, 50), 10, bias=True)


def long_epilogue(g: Draft) -> Value:
    return as_bytes(g, g.op("Gelu", times(g, rows(g, 9, 40), 18)), zero=4)


def scores(g: Draft) -> Value:
    keys = rows(g, 2, 3, 17, 21, zero=99)
    return as_bytes(g, g.op("Mul", g.op("MatMul", rows(g, 2, 3, 7, 17), keys), g.const(0.004)))


def scores_of_signed(g: Draft) -> Value:
    keys = rows(g, 64, 50, dtype=DType.int8, zero=0)
    y = g.op("MatMul", rows(g, 40, 64, dtype=DType.int8, zero=-9), keys)
    return as_bytes(g, g.op("Mul", y, g.const(0.002)), np.int8, 1)


def weighted_values(g: Draft) -> Value:
    """What a softmax made has no zero point."""
    values = rows(g, 3, 33, 25, dtype=DType.int8, zero=4)
    return as_bytes(g, g.op("Mul", g.op("MatMul", rows(g, 3, 5, 33, zero=0), values), g.const(0.004)))


EXACT: tuple[Layer, ...] = (
    odd_rows,
    single_row,
    single_column,
    whole_steps,
    whole_steps_of_unsigned,
    lowest_weights,
    wide_weights,
    packed_odd_rows,
    packed_single_row,
    packed_whole_steps,
    packed_in_three_bits,
    packed_in_two_bits,
    of_shorts,
    packed_of_shorts,
    residual,
    floats,
    scores,
    scores_of_signed,
    weighted_values,
)
LAYERS = (*EXACT, long_epilogue)
NOT_BYTES = (wide_weights, of_shorts, packed_of_shorts)

STEP = {long_epilogue.__name__: 1}
"""Of the bytes, by layer: approximations of functions may fall on the other side of a tie. The others are exact."""


@dataclasses.dataclass(frozen=True)
class Product:
    """A layer as the one group it becomes."""

    graph: Graph
    group: Node

    @classmethod
    def of(cls, build: Layer) -> Product:
        draft = Draft()
        draft.output(build(draft))
        graph = legalized(draft.graph)
        grouped = graph.clone()
        fuse(grouped)  # alone: bytes keep the sign that the model gives them
        (group,) = (node for node in grouped.nodes if is_fused(node))
        return cls(graph, group)

    def inputs(self) -> dict[str, np.ndarray]:
        random = np.random.default_rng(3)
        found = {}
        for value in self.graph.inputs:
            bounds = np.iinfo(value.dtype.numpy)
            data = random.integers(bounds.min, bounds.max + 1, value.static_shape)
            data[random.random(data.shape) < 0.2] = bounds.min
            found[value.name] = data.astype(value.dtype.numpy)
        return found

    def expected(self) -> np.ndarray:
        (result,) = run(self.graph, self.inputs()).values()
        return result

    def template(self, target: Target) -> IntegerProduct | IntegerBatches:
        choice = choose(body_of(self.group), constant_operands(self.group), target)
        assert choice is not None and isinstance(choice.template, IntegerProduct | IntegerBatches)
        return choice.template

    def call(self, template: IntegerProduct | IntegerBatches, number: int | None = None) -> Call:
        """The kernel with its operands, by the dot product of a number or by that chosen."""
        decision = dict(template.defaults())
        if number is not None:
            like = {**decision, "dot": number, "vectors": 2}
            decision = dict(template.defaults(like))
        packed = template.pack(decision, constant_operands(self.group))
        data: Mapping[str, np.ndarray] = self.inputs()
        operands = [
            packed.get(n, value.constant if value.constant is not None else data.get(value.name))  # type: ignore[union-attr]
            for n, value in enumerate(self.group.inputs)
        ]
        return Call(template.build(decision), operands, self.expected())  # type: ignore[arg-type]


def check(calls: Mapping[str, Call], target: Target, folder: Path) -> None:
    results = run_kernels(calls, target, folder)
    for name, call in calls.items():
        want = call.result
        assert len(np.unique(want)) > 4, name
        allowed = STEP.get(name.split("__")[0], 0)
        error = np.abs(results[name].astype(float) - want).max()
        assert error <= allowed, f"{name} is off by {error}"


EVERY_WAY = (odd_rows, whole_steps, packed_odd_rows, packed_whole_steps, scores)
"""Layers that are read in every way; others only in the best."""


@pytest.fixture(autouse=True)
def always_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long unpacking takes."""
    monkeypatch.setattr(integer_product, "stays_packed", lambda *_: True)


def all_calls(target: Target) -> dict[str, Call]:
    calls = {}
    for build in LAYERS:
        product = Product.of(build)
        template = product.template(target)
        is_packed = any(isinstance(reading.dot, FewBitsDot) for reading in template.readings)
        assert is_packed == build.__name__.startswith("packed")
        others = range(len(template.readings)) if build in EVERY_WAY else ()
        for number in (None, *others):
            calls[f"{build.__name__}__{number}"] = product.call(template, number)
    return calls


BOARDS = [pytest.param(name, marks=runnable(name)) for name in ("rpi4", "rpi5", "aarch64-v8.6", "rpi-armv7")]


OLD = pytest.param("x86-64-v2", marks=runnable("x86-64-v2"))


@pytest.mark.parametrize("name", ["host", OLD, *BOARDS])
def test_layers(name: str, tmp_path: Path) -> None:
    check(all_calls(load_target(name)), load_target(name), tmp_path)


@pytest.mark.parametrize(
    "dot", [QuadDot(16, 4, emulated=True), QuadDot(8, 4, emulated=True), PortableDot(8, 4)], ids=str
)
def test_instructions_this_machine_may_lack(dot: Dot, tmp_path: Path) -> None:
    host = load_target("host")
    target = dataclasses.replace(host, vector_bits=512, vector_registers=32)
    calls = {}
    for build in LAYERS:
        if build in NOT_BYTES and isinstance(dot, QuadDot):
            continue
        product = Product.of(build)
        shift = 128 if product.group.inputs[0].dtype is DType.int8 and isinstance(dot, QuadDot) else 0  # type: ignore[union-attr]
        template = dataclasses.replace(product.template(target), readings=(Reading(dot, shift),))
        if build.__name__.startswith("packed"):
            few = in_few_bits(dot, 16, np.zeros((1, 1), np.int8), PACKINGS[-1])
            assert few is not None
            calls[f"{build.__name__}_4bit"] = product.call(
                dataclasses.replace(template, readings=(Reading(few, shift),))
            )
        calls[build.__name__] = product.call(template)
    check(calls, host, tmp_path)


def narrow(g: Draft) -> Value:
    return as_bytes(g, g.op("MatMul", rows(g, 3, 8), rows(g, 8, 3)))


def broadcast(g: Draft) -> Value:
    return as_bytes(g, g.op("MatMul", rows(g, 2, 3, 8), rows(g, 8, 16)))


def of_a_vector(g: Draft) -> Value:
    return as_bytes(g, times(g, rows(g, 24), 16))


@pytest.mark.parametrize("build", [narrow, broadcast, of_a_vector])
def test_what_is_left_to_the_generic_kernel(build: Layer) -> None:
    group = Product.of(build).group
    assert choose(body_of(group), constant_operands(group), load_target("host")) is None


@pytest.mark.parametrize("name", ["rpi4", "rpi5", "x86-64-v3", "x86-64-v4"])
def test_kernels_are_shared_only_by_groups_that_are_packed_alike(name: str) -> None:
    """Bodies are equal, weights are not: some fit 4 bits, some have -128, which not every instruction takes."""
    target, found = load_target(name), {}
    for kind, low, high in (("few", -8, 7), ("many", -127, 127), ("lowest", -128, 127)):

        def build(g: Draft, low: int = low, high: int = high) -> Value:
            data = g.random.integers(low, high + 1, (32, 16))
            data[0] = low
            return as_bytes(g, product(g, rows(g, 2, 32), data, np.full(16, 0.01), np.zeros(16), False))

        found[kind] = Product.of(build).template(target)
    dots = {kind: template.readings[template.defaults()["dot"]].dot for kind, template in found.items()}
    assert isinstance(dots["few"], FewBitsDot)
    for one, other in itertools.combinations(found, 2):
        assert (dots[one] == dots[other]) == (found[one].name == found[other].name)


def test_equal_weights_are_packed_alike() -> None:
    target = load_target("x86-64-v3")
    template = Product.of(odd_rows).template(target)
    few = dataclasses.replace(template, rows=1)
    like = template.defaults()
    again = few.defaults(like)
    assert (again["dot"], again["vectors"]) == (like["dot"], like["vectors"])
