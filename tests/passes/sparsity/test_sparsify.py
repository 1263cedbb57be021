"""`graphopt.sparsify` and its pass, on a network of convolutions and dense layers."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir import Graph, Origin, Value
from graphopt.onnx_io.write import to_bytes
from graphopt.passes import catalog
from graphopt.passes.pruning.refit import is_layer
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.helpers import Draft, made


def network(draft: Draft) -> Value:
    """Channels hang together: there is something to make up with."""
    x = draft.op("Conv", draft.input(1, 3, 6, 6), draft.weight(16, 3, 3, 3), draft.weight(16), pads=(1,) * 4)
    x = draft.op("Relu", x)
    x = draft.op("Relu", draft.op("Conv", x, draft.weight(16, 16, 3, 3), pads=(1,) * 4))
    x = draft.op("Conv", x, draft.weight(16, 4, 1, 1), group=4)
    x = draft.op("Flatten", draft.op("MaxPool", x, kernel_shape=(3, 3), strides=(3, 3)))
    x = draft.op("Gemm", x, draft.weight(64, 32), draft.weight(32))
    return draft.op("MatMul", draft.op("Relu", x), draft.weight(32, 8))


def graph_of() -> Graph:
    graph = made(network)
    for node in graph.nodes:
        node.origin = Origin("", (node.name,))
    return graph


def samples(graph: Graph, count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    shape = graph.inputs[0].static_shape
    return [{"x0": random.normal(size=shape).astype(np.float32)} for _ in range(count)]


def weights_of(graph: Graph) -> list[np.ndarray]:
    return [node.inputs[1].constant for node in graph.nodes if is_layer(node)]  # type: ignore[union-attr, misc]


def zeros(graph: Graph) -> float:
    found = weights_of(graph)
    return sum(int((w == 0).sum()) for w in found) / sum(w.size for w in found)


def error(whole: Graph, sparse: Graph) -> float:
    fresh = samples(whole, 300)[200:]
    a, b = (np.stack([next(iter(run(graph, x).values())) for x in fresh]) for graph in (whole, sparse))
    return float(np.sqrt(np.square(a - b).mean() / np.square(a).mean()))


def test_others_make_up_for_what_goes() -> None:
    graph = graph_of()
    given = samples(graph, 200)
    fitted = graphopt.sparsify(graph, given, ratio=0.6)
    plain = graphopt.sparsify(graph, ratio=0.6)
    assert zeros(fitted.graph) == pytest.approx(0.6, abs=0.002) == fitted.ratio
    assert zeros(plain.graph) == pytest.approx(0.6, abs=0.002)
    assert error(graph, fitted.graph) < 0.6 * error(graph, plain.graph)
    assert to_bytes(fitted.graph) == to_bytes(graphopt.sparsify(graph, given, ratio=0.6).graph)


def test_the_same_ratio_in_each_layer() -> None:
    graph = graph_of()
    result = graphopt.sparsify(graph, samples(graph, 60), ratio=0.5, per_layer=True, exclude=["MatMul*"])
    for one, weights in zip(result.layers, weights_of(result.graph), strict=True):
        share = float((weights == 0).mean())
        assert one.ratio == share and abs(share - (0 if one.reason else 0.5)) < 0.01
    assert [bool(one.reason) for one in result.layers] == [False] * 4 + [True]


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("pattern", ["2:4", "1x4"])
def test_patterns_run_along_the_inputs_of_a_tap(pattern: str, data: bool) -> None:
    graph = graph_of()
    ratio = 0.5 if pattern == "1x4" else None
    given = samples(graph, 60) if data else None
    result = graphopt.sparsify(graph, given, pattern=pattern, ratio=ratio)
    first, second, grouped, dense, last = weights_of(result.graph)
    assert not (first == 0).any() and result.layers[0].reason == "3 inputs are no multiple of 4"
    rows = (second.transpose(0, 2, 3, 1), grouped.transpose(0, 2, 3, 1), dense.T, last.T)
    stays = {int(count) for w in rows for count in (w.reshape(-1, 4) != 0).sum(1)}
    assert stays == ({2} if pattern == "2:4" else {0, 4})


def test_a_threshold() -> None:
    graph = graph_of()
    for given in (None, samples(graph, 60)):
        result = graphopt.sparsify(graph, given, threshold=0.1)
        for before, after in zip(weights_of(graph), weights_of(result.graph), strict=True):
            np.testing.assert_array_equal(after == 0, np.abs(before) < 0.1)


def test_the_pass() -> None:
    graph = graph_of()
    record = parse_pipeline("sparsify{pattern=2:4 exclude=Gemm*},eliminate-dead-code", catalog()).run(graph)
    assert record.statistics().fired["sparsify"] == (16 * 16 * 9 + 16 * 4 + 32 * 8) // 2
    parse_pipeline("sparsify{ratio=0.9},eliminate-dead-code", catalog()).run(graph)
    assert zeros(graph) == pytest.approx(0.9, abs=0.002)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("sparsify", "nothing says how many weights"),
        ("sparsify{ratio=0.5 threshold=0.1}", "two aims at once"),
        ("sparsify{ratio=2}", "2 is no share of a whole"),
        ("sparsify{ratio=0.5 pattern=2:4}", "2:4 itself says how many go"),
        ("sparsify{threshold=0.5 pattern=1x4}", "blocks go by a ratio"),
        ("sparsify{threshold=-1}", "-1 is no magnitude"),
        ("sparsify{ratio=0.5 exclude=Gemn}", "there is no layer 'Gemn'"),
        ("sparsify{ratio=0.5 exclude=*}", "nothing can become sparse: it is excluded"),
        ("sparsify{pattern=3:5}", "nothing can become sparse: 3 inputs are no multiple of 5"),
    ],
)
def test_bad_options(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(spec, catalog()).run(graph_of())
    assert told in str(caught.value)


def test_nothing_to_measure_on() -> None:
    with pytest.raises(UsageError, match="nothing to measure on"):
        graphopt.sparsify(graph_of(), ratio=0.5, measure=True)
