"""Which products read 16 bits: those behind the last recurrence, with next to nothing of the work."""

from __future__ import annotations

import dataclasses

import numpy as np

import graphopt
from graphopt.finishing_products import finishing_products
from graphopt.ir import Value
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.targets.device import load_target
from tests.passes.helpers import Draft, made
from tests.passes.quantization.quantised import samples_of

STEPS, WIDTH, HIDDEN = 12, 8, 16


def classifier(classes: int = 4, *, hides: bool = False):  # type: ignore[no-untyped-def]
    """Two LSTMs and a product with the last state; where it `hides`, another product reads its results."""

    def build(g: Draft) -> Value:
        x = g.input(STEPS, 1, WIDTH)
        for number in range(2):
            rows, width = 4 * HIDDEN, x.static_shape[-1]
            weights = g.weight(1, rows, width), g.weight(1, rows, HIDDEN)
            (states,) = g.ops("LSTM", x, *weights, outputs=1, hidden_size=HIDDEN, name=f"cell.{number}")
            x = g.op("Reshape", states, g.ints(STEPS, 1, HIDDEN))
        last = g.op("Gather", x, g.const(STEPS - 1, np.int64), axis=0)
        made = g.op("Gemm", last, g.weight(HIDDEN, classes), g.weight(classes), name="scores")
        return g.op("MatMul", made, g.weight(classes, 2), name="behind") if hides else made

    return build


def chosen(build, target=None, scheme: str = "int8") -> dict[str, str]:  # type: ignore[no-untyped-def]
    graph = made(build)
    layers = layers_of(graph, parse_scheme(scheme))
    return {node.name: str(s) for node, s in finishing_products(graph, layers, target).items()}


def test_the_last_product_reads_16_bits() -> None:
    assert chosen(classifier()) == {"scores": "16x8"}
    assert chosen(classifier(), load_target("rpi4")) == {"scores": "16x8"}


def test_nothing_where_it_is_not_worth_it() -> None:
    assert chosen(classifier(classes=64)) == {}, "more than a hundredth of the work"
    assert chosen(classifier(hides=True)) == {}, "a layer is behind it, and none that reads a state is last"
    assert chosen(classifier(), scheme="16x8") == {}
    assert chosen(classifier(), scheme="weights-int8") == {}
    host = load_target("host")
    narrow = tuple(product for product in host.integer_products if not product.startswith("int16"))
    assert chosen(classifier(), dataclasses.replace(host, integer_products=narrow)) == {}


def test_quantize_reports_it_unless_it_is_off() -> None:
    graph = made(classifier())
    schemes = {}
    for methods in ("default", "round+bias"):
        result = graphopt.quantize(graph, samples_of(graph), methods=methods)
        schemes[methods] = [str(layer.scheme) for layer in result.report.layers]
        assert result.report.share_of_macs == 1
    assert schemes == {"default": ["int8", "int8", "16x8"], "round+bias": ["int8", "int8", "int8"]}
