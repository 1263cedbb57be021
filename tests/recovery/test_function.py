"""Graphs as JAX functions: every operator against the numpy reference, weights out and in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.errors import UnsupportedError
from graphopt.ir import Value
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Draft, made

pytest.importorskip("jax", reason="JAX is not here: pip install graphopt[recover]")

from graphopt.recovery.function import GraphFunction  # noqa: E402
from graphopt.recovery.operators import why_not  # noqa: E402


def image(op_type: str, **attributes: object) -> Callable[[Draft], Value]:
    return lambda draft: draft.op(op_type, draft.input(1, 4, 7, 6), **attributes)


def unary(op_type: str, **attributes: object) -> Callable[[Draft], Value]:
    return lambda draft: draft.op(op_type, draft.input(1, 3, 5), **attributes)


def conv(group: int, channels: int, **attributes: object) -> Callable[[Draft], Value]:
    def build(draft: Draft) -> Value:
        weights = draft.weight(channels, 4 // group, 3, 2)
        return draft.op(
            "Conv", draft.input(1, 4, 9, 8), weights, draft.weight(channels), group=group, **attributes
        )

    return build


def normalised(draft: Draft) -> Value:
    rest = [draft.weight(4), draft.weight(4), draft.weight(4), draft.weight(4, positive=True)]
    x = draft.op("BatchNormalization", draft.input(1, 4, 3, 3), *rest)
    return draft.op("LayerNormalization", x, draft.weight(3), draft.weight(3), axis=-1)


def moved(draft: Draft) -> Value:
    ints, x = draft.ints, draft.input(1, 6, 4)
    a, b = draft.ops("Split", x, ints(2, 4), outputs=2, axis=1)
    part = draft.op("Slice", b, ints(3), ints(-9), ints(1), ints(-2))
    y = draft.op("Concat", a, draft.op("Pad", part, ints(0, 1, 0, 0, 0, 0)), axis=1)
    y = draft.op("Transpose", draft.op("Reshape", y, ints(1, 4, -1)), perm=(0, 2, 1))
    y = draft.op("Gather", y, ints(3, 0), axis=1)
    return draft.op("ReduceMean", draft.op("Unsqueeze", y, ints(1)), ints(2), keepdims=0)


def products(draft: Draft) -> Value:
    x = draft.op(
        "Gemm", draft.input(4, 3), draft.weight(5, 4), draft.weight(5), transA=1, transB=1, alpha=0.5
    )
    y = draft.op("MatMul", x, draft.weight(5, 6))
    return draft.op("Where", draft.const([[True], [False], [True]], np.bool_), y, draft.op("Neg", y))


def recurrence(
    op_type: str, gates: int, directions: int = 1, **attributes: object
) -> Callable[[Draft], Value]:
    """All outputs, from states that are given, along a sequence of 5."""

    def build(draft: Draft) -> Value:
        weights = (draft.weight(directions, gates * 4, n) for n in (3, 4))
        states = [draft.weight(directions, 2, 4) for _ in range(2 if op_type == "LSTM" else 1)]
        operands = (draft.input(5, 2, 3), *weights, draft.weight(directions, 2 * gates * 4), None, *states)
        y, *last = draft.ops(op_type, *operands, outputs=1 + len(states), hidden_size=4, **attributes)
        flat = [draft.op("Reshape", value, draft.ints(-1)) for value in (y, *last)]
        return draft.op("Concat", *flat, axis=0)

    return build


CASES: dict[str, Callable[[Draft], Value]] = {
    "conv": conv(1, 6, pads=(1, 0, 2, 1), strides=(2, 1)),
    "grouped": conv(2, 6, dilations=(2, 1)),
    "depthwise": conv(4, 4, pads=(1, 1, 1, 1), strides=(2, 3), dilations=(1, 2)),
    "same": conv(1, 5, auto_pad="SAME_UPPER", strides=(2, 2)),
    "max": image("MaxPool", kernel_shape=(3, 2), strides=(2, 2), pads=(1, 0, 1, 0)),
    "average": image("AveragePool", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    "counted": image("AveragePool", kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1),
    "global": image("GlobalAveragePool"),
    "global max": image("GlobalMaxPool"),
    "normalised": normalised,
    "moved": moved,
    "products": products,
    "clip": lambda draft: draft.op("Clip", draft.input(3, 5), draft.const(-0.5), draft.const(0.5)),
    "softmax": unary("Softmax", axis=1),
    "lstm": recurrence("LSTM", 4),
    "lstm both ways": recurrence("LSTM", 4, 2, direction="bidirectional"),
    "gru": recurrence("GRU", 3, direction="reverse"),
    "gru, linear first": recurrence("GRU", 3, linear_before_reset=1),
    "rnn": recurrence("RNN", 1),
    "gelu": unary("Gelu"),
    "gelu by tanh": unary("Gelu", approximate="tanh"),
    "elu": unary("Elu", alpha=0.7),
    "hard sigmoid": unary("HardSigmoid", alpha=0.3),
    **{
        name: unary(name)
        for name in ("HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Swish", "Tanh")
    },
}


@pytest.mark.parametrize("case", CASES)
def test_operators(case: str) -> None:
    graph = made(CASES[case])
    inputs = [random_inputs(graph, seed) for seed in (1, 2)]
    function = GraphFunction(graph)
    stacked = {name: np.stack([sample[name] for sample in inputs]) for name in inputs[0]}
    [got] = function.over_batches(logits=False)(function.weights, stacked)
    for row, sample in zip(np.asarray(got), inputs, strict=True):
        [wanted] = run(graph, sample).values()
        np.testing.assert_allclose(row, wanted, rtol=2e-5, atol=2e-5)


def test_weights_go_back_and_logits_are_before_the_softmax() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("Add", draft.op("Gemm", draft.input(1, 4), draft.weight(4, 3)), draft.const(0.5))
        return draft.op("Softmax", x, axis=-1)

    graph = made(build)
    function = GraphFunction(graph)
    assert [array.shape for array in function.weights.values()] == [(4, 3)]
    doubled = function.with_weights({name: 2 * array for name, array in function.weights.items()})
    sample = random_inputs(graph, 0)
    [logits] = function.logits(function.weights, sample)
    [more] = GraphFunction(doubled).logits(GraphFunction(doubled).weights, sample)
    np.testing.assert_allclose(np.asarray(more) - 0.5, 2 * (np.asarray(logits) - 0.5), rtol=1e-5)


def test_recurrences_that_are_not_done_are_named() -> None:
    for attributes, told in (
        ({"layout": 1}, "layout 1"),
        ({"activations": ("Relu",)}, "activations Relu"),
        ({"clip": 3.0}, "clip"),
    ):
        node = next(node for node in made(recurrence("RNN", 1)).nodes if node.is_op("RNN"))
        node.attributes.update(attributes)
        assert told in why_not(node)


def test_operators_without_a_form_are_named() -> None:
    with pytest.raises(UnsupportedError, match="Det has no form that can be learned"):
        GraphFunction(made(lambda draft: draft.op("Det", draft.input(3, 3))))
