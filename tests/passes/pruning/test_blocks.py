"""Residual blocks: what they consist of, which can be spared, what makes up for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir import Graph, Origin, Value
from graphopt.ir.verify import verify
from graphopt.onnx_io.write import to_model
from graphopt.passes import PRUNABLE, catalog
from graphopt.passes.pruning.blocks import detached, residual_blocks, take_out
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.networks.transformers import bert
from tests.passes.helpers import Draft, made

CHANNELS = 6


def residual(draft: Draft, x: Value, scale: float, width: int = CHANNELS) -> Value:
    inner = draft.op("Relu", draft.op("Conv", x, draft.weight(width, x.static_shape[1], 1, 1)))
    weights = draft.random.normal(size=(x.static_shape[1], width, 1, 1)) * scale
    return draft.op("Add", x, draft.op("Conv", inner, draft.const(weights), draft.weight(x.static_shape[1])))


def network(draft: Draft) -> Value:
    """Blocks of which the second does least, one that widens behind them, a dense layer."""
    x = draft.op("Conv", draft.input(1, 3, 4, 4), draft.weight(CHANNELS, 3, 1, 1))
    for scale in (0.5, 0.05, 0.4):
        x = draft.op("Relu", residual(draft, x, scale))
    wide = draft.op("Conv", x, draft.weight(8, CHANNELS, 3, 3), pads=(1, 1, 1, 1))
    x = draft.op("Add", draft.op("Conv", x, draft.weight(8, CHANNELS, 1, 1)), wide)
    return draft.op("Gemm", draft.op("Flatten", draft.op("GlobalAveragePool", x)), draft.weight(8, 4))


def named(build: Callable[[Draft], Value]) -> Graph:
    """A graph whose nodes are known by their own names."""
    graph = made(build)
    for node in graph.nodes:
        node.origin = Origin("", (node.name,))
    return graph


def samples(graph: Graph, count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    shape = graph.inputs[0].static_shape
    return [{"x0": random.normal(size=shape).astype(np.float32)} for _ in range(count)]


def answers(graph: Graph, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.stack([next(iter(run(graph, x).values())) for x in inputs])


def test_either_side_of_a_sum_is_a_block_unless_all_else_hangs_on_it() -> None:
    blocks = residual_blocks(named(network))
    assert [(block.layers, block.operand) for block in blocks] == [(2, 1)] * 3 + [(1, 0), (1, 1)]
    hidden = 2 * CHANNELS * CHANNELS + CHANNELS
    assert [block.parameters for block in blocks] == [hidden] * 3 + [8 * CHANNELS, 8 * 9 * CHANNELS]


def test_what_the_sum_of_inputs_needs_stays() -> None:
    """Without a block an input would be read by nobody."""

    def build(draft: Draft) -> Value:
        a, b = draft.input(1, 4), draft.input(1, 4)
        return draft.op("Add", draft.op("MatMul", a, draft.weight(4, 4)), draft.op("Relu", b))

    assert residual_blocks(made(build)) == []


def test_parts_that_another_needs_or_the_model_returns_are_not_of_the_block() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("MatMul", draft.input(1, 4), draft.weight(4, 4))
        shared = draft.op("MatMul", x, draft.weight(4, 4))
        y = draft.op("Add", x, draft.op("MatMul", shared, draft.weight(4, 4)))
        return draft.op("Mul", y, draft.op("Sigmoid", shared))

    [block] = residual_blocks(made(build))
    assert block.layers == 1

    def returned(draft: Draft) -> Value:
        x = draft.op("MatMul", draft.input(1, 4), draft.weight(4, 4))
        branch = draft.op("MatMul", x, draft.weight(4, 4))
        draft.output(branch)
        return draft.op("Add", x, branch)

    assert residual_blocks(made(returned)) == []


def test_zeros_in_its_place_are_the_same() -> None:
    graph = named(network)
    blocks = residual_blocks(graph)
    inputs = samples(graph, 3)
    for chosen in ([blocks[0]], [blocks[1], blocks[3]], blocks[:3]):
        narrow = graph.clone()
        take_out(narrow, chosen)
        verify(narrow)
        to_model(narrow)
        assert len(narrow) < len(graph)
        np.testing.assert_array_equal(answers(narrow, inputs), answers(detached(graph, chosen), inputs))


def test_a_transformer_loses_attention_and_feed_forward_parts() -> None:
    graph = graphopt.optimize(graphopt.load(bert()), PRUNABLE)
    blocks = residual_blocks(graph)
    assert [block.layers for block in blocks] == [4, 2] * 3
    take_out(graph, blocks[2:4])
    verify(graph)
    assert [block.layers for block in residual_blocks(graph)] == [4, 2] * 2


def test_the_block_that_does_least_goes_and_others_make_up_for_it() -> None:
    graph = named(network)
    given = samples(graph, 300)
    second = residual_blocks(graph)[1].name
    fitted = graphopt.prune(graph, given[:200], ratio=0.25, blocks=True)
    plain = graphopt.prune(graph, given[:200], ratio=0.25, blocks=True, recovery="none")
    assert [block.name for block in fitted.blocks] == [block.name for block in plain.blocks] == [second]
    wanted = answers(graph, given[200:])
    errors = [np.square(answers(r.graph, given[200:]) - wanted).mean() for r in (fitted, plain)]
    assert errors[0] < 0.3 * errors[1] and fitted.fits and not plain.fits


def test_aims_are_met_or_refused() -> None:
    graph = named(network)
    given = samples(graph, 40)
    result = graphopt.prune(graph, given, macs=0.8, blocks=True)
    before, after = (size.cost.macs for size in (result.change.before, result.change.after))
    assert after <= 0.8 * before and result.blocks and not result.widths
    with pytest.raises(UsageError, match="without all blocks"):
        graphopt.prune(graph, given, macs=0.01, blocks=True)
    kept = graphopt.prune(graph, given, ratio=0.25, blocks=True, exclude=[result.blocks[0].name])
    assert kept.blocks[0].name != result.blocks[0].name


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": None}, "measured on samples, and there are none"),
        ({"multiple": 4}, "it is about channels"),
        ({"only": ["heads"]}, "it is about channels"),
        ({"exclude": ["Gemn"]}, "no block has a node 'Gemn'"),
        ({"exclude": ["*"]}, "every block is excluded"),
    ],
)
def test_bad_options(options: dict, told: str) -> None:
    graph = named(network)
    with pytest.raises(UsageError) as caught:
        graphopt.prune(graph, **{"data": samples(graph, 40), "ratio": 0.2, "blocks": True, **options})
    assert told in str(caught.value)


def test_a_model_without_blocks_says_so() -> None:
    def build(draft: Draft) -> Value:
        return draft.op("MatMul", draft.input(1, 4), draft.weight(4, 4))

    graph = made(build)
    with pytest.raises(UsageError, match="it has no residual block"):
        graphopt.prune(graph, samples(graph, 40), ratio=0.2, blocks=True)


def test_the_pass() -> None:
    graph = named(network)
    names = [block.name for block in residual_blocks(graph)]
    parse_pipeline(f"prune-layers{{blocks={names[0]}+{names[2]}}}", catalog()).run(graph)
    assert [block.name for block in residual_blocks(graph)] == [names[1], *names[3:]]
    for spec, told in (("prune-layers", "which blocks"), ("prune-layers{blocks=Con}", "there is no block")):
        with pytest.raises(UsageError, match=told):
            parse_pipeline(spec, catalog()).run(graph)
