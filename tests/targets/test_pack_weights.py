"""Packed recurrent weights: the right order, the right widths, the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import KERNEL, DType, Graph, TensorType
from graphopt.targets.device import load_target
from graphopt.targets.lower.recurrent_layout import GATES, sizes_of
from graphopt.targets.pack_weights import pack_weights
from tests.targets.lower.recurrent_reference import evaluate

STEPS, BATCH, INPUTS, HIDDEN = 3, 2, 5, 20
RANDOM = np.random.default_rng(5)


def weights(op_type: str) -> list[np.ndarray]:
    """W, R and B of two directions."""
    rows = GATES[op_type] * HIDDEN
    shapes = ((2, rows, INPUTS), (2, rows, HIDDEN), (2, 2 * rows))
    return [RANDOM.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]


def recurrent_graph(data: dict[str, list[np.ndarray]], *, constant: bool = True) -> Graph:
    """One bidirectional operator for each entry, on the same input."""
    graph = Graph("recurrent", opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (STEPS, BATCH, INPUTS)))
    for op_type, (w, r, b) in data.items():
        if constant:
            operands = [
                graph.add_constant(a, f"{op_type}.{n}") for n, a in zip("WRB", (w, r, b), strict=True)
            ]
        else:
            operands = [
                graph.add_input(f"{op_type}.{n}", TensorType(DType.float32, a.shape))
                for n, a in zip("WRB", (w, r, b), strict=True)
            ]
        type = TensorType(DType.float32, (STEPS, 2, BATCH, HIDDEN))
        attributes = {"hidden_size": HIDDEN, "direction": "bidirectional"}
        node = graph.add(op_type, [x, *operands], attributes, types=[type], name=op_type)
        graph.add_output(node.output, op_type)
    return graph


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v4", "rpi4", "rpi-armv7"])
def test_order(target: str) -> None:
    data = {op_type: weights(op_type) for op_type in GATES}
    graph = recurrent_graph(data)
    pack_weights(graph, load_target(target))
    for node, (op_type, (w, r, _)) in zip(graph.nodes, data.items(), strict=True):
        assert node.key == f"{KERNEL}::{op_type}" and node.name == op_type
        sizes = sizes_of(node)
        packed_w, packed_r = (node.inputs[k].constant for k in (1, 2))  # type: ignore[union-attr]
        for d, gate, unit, k in ((0, 0, 0, 0), (1, sizes.gates - 1, HIDDEN - 1, 4), (0, 0, 9, 2)):
            tile, lane = divmod(unit, sizes.lanes)
            assert packed_w[d, tile, gate, k, lane] == w[d, gate * HIDDEN + unit, k]
            assert packed_r[d, tile, k, gate, lane] == r[d, gate * HIDDEN + unit, k]
        filled = sizes.padded - HIDDEN
        assert not packed_w[:, -1, ..., sizes.lanes - filled :].any()
        assert not packed_r[:, -1, ..., sizes.lanes - filled :].any()
        assert packed_w[..., 0].size * sizes.lanes == w.size // HIDDEN * sizes.padded


@pytest.mark.parametrize(
    ("target", "lanes", "accumulators"),
    [("x86-64-v2", 4, 12), ("x86-64-v3", 8, 12), ("x86-64-v4", 32, 12), ("rpi4", 4, 24)],
)
def test_twenty_units_in_the_fewest_vectors(target: str, lanes: int, accumulators: int) -> None:
    graph = recurrent_graph({"GRU": weights("GRU")})
    pack_weights(graph, load_target(target))
    node = graph.node("GRU")
    assert (node.int("lanes"), node.int("accumulators")) == (lanes, accumulators)


def test_weights_of_run_time_stay() -> None:
    graph = recurrent_graph({"RNN": weights("RNN")}, constant=False)
    pack_weights(graph, load_target("host"))
    assert graph.node("RNN").inputs[1] is graph.inputs[1]


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "run-time"])
def test_compiled(constant: bool, tmp_path: Path) -> None:
    data = {op_type: weights(op_type) for op_type in GATES}
    graph = recurrent_graph(data, constant=constant)
    bundle = graphopt.compile(graph, out=tmp_path / "recurrent.bundle", name="recurrent")
    x = RANDOM.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    feeds = {"x": x}
    if not constant:
        feeds |= {f"{op}.{n}": a for op, arrays in data.items() for n, a in zip("WRB", arrays, strict=True)}
    outputs = graphopt.Module(bundle.path)(feeds)
    for op_type, arrays in data.items():
        expected = evaluate(op_type, [x, *arrays], {"direction": "bidirectional"})[0]
        limit = 4 * (INPUTS + HIDDEN) * np.finfo(np.float32).eps
        np.testing.assert_allclose(outputs[op_type], expected, rtol=0, atol=limit)
