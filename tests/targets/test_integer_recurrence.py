"""LSTM and GRU of bytes: each step against the reference from the same state, odd sizes and other machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import QUANT, DType, Graph, Node, TensorType
from graphopt.runtime.reference import random_inputs
from graphopt.runtime.reference_recurrent import step, times
from graphopt.targets.emulated import EmulatedModule
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable

GATES = {"LSTM": 4, "GRU": 3}
EPSILON = float(np.finfo(np.float32).eps)

ULPS = 16
"""Of a step: three functions within four units each, and the roundings of five operations."""


@dataclass(frozen=True)
class Case:
    op_type: str
    steps: int
    batch: int
    hidden: int
    dtype: DType = DType.int8
    zero: int = -5
    reverse: bool = False
    every: bool = True
    """Whether the states of all steps are read, or the last one."""

    def add_to(self, draft: Draft, name: str) -> None:
        g, columns = draft, GATES[self.op_type] * self.hidden
        scale = g.random.uniform(0.5, 1.0, columns) / (50 * 127 * np.sqrt(self.hidden)) * 10
        weights = g.random.integers(-127, 128, (self.hidden, columns))
        h = g.random.integers(-100, 100, (self.batch, self.hidden)) + self.zero
        bounds = np.iinfo(self.dtype.numpy)
        operands = [
            g.input(self.steps, self.batch, columns),
            g.const(weights, np.int8),
            g.const(g.random.integers(-3000, 3000, columns), np.int32),
            g.const(scale),
            g.const(np.clip(h, bounds.min, bounds.max), self.dtype.numpy),
        ]
        rows = (self.batch, self.hidden)
        types = [TensorType(self.dtype, rows), TensorType(self.dtype, (self.steps, *rows))]
        if self.op_type == "LSTM":
            operands.append(g.input(*rows))
            types.insert(1, TensorType(DType.float32, rows))
        attributes = {"h_scale": 0.0078125, "h_zero_point": self.zero, "reverse": int(self.reverse)}
        node = g.graph.add(self.op_type, operands, attributes, types=types, domain=QUANT, name=name)
        for number, value in enumerate(node.outputs):
            if self.every or number < len(types) - 1:
                g.graph.add_output(value, f"{name}.{number}")


BYTES = {"dtype": DType.uint8, "zero": 131}

CASES = (
    Case("LSTM", 5, 1, 1),
    Case("LSTM", 6, 3, 13, reverse=True, **BYTES),  # type: ignore[arg-type]
    Case("LSTM", 3, 9, 40),
    Case("LSTM", 20, 1, 64, **BYTES),  # type: ignore[arg-type]
    Case("LSTM", 2, 1, 384),  # on threads
    Case("LSTM", 4, 2, 17, every=False),
    Case("GRU", 5, 1, 1, **BYTES),  # type: ignore[arg-type]
    Case("GRU", 7, 5, 21, reverse=True),
    Case("GRU", 20, 1, 48, **BYTES),  # type: ignore[arg-type]
    Case("GRU", 4, 2, 9, every=False),
)

Results = Mapping[str, np.ndarray]


def cases() -> Graph:
    draft = Draft()
    for number, case in enumerate(CASES):
        case.add_to(draft, f"case_{number}")
    return draft.graph


def check(node: Node, case: Case, inputs: Results, results: Results) -> None:
    """From what the kernel has left behind, each step makes what it rounds next, but for what functions may be off."""
    x, weights, bias, scale, *states = (  # type: ignore[misc]
        inputs[v.name] if v.constant is None else v.constant  # type: ignore[union-attr]
        for v in node.inputs
    )
    made = [results.get(f"{node.name}.{number}") for number in range(len(node.outputs))]
    bounds, unit = np.iinfo(case.dtype.numpy), node.float("h_scale")
    error = 0.0
    for count, time in enumerate(times(node, case.steps), 1):
        floats, *cell = step(node, x[time], (weights, bias, scale), states)
        error = count * ULPS * EPSILON * max([1.0, *(float(np.abs(c).max()) for c in cell)])
        exact = np.clip(floats / unit + case.zero, bounds.min, bounds.max)
        rounded = np.rint(exact).astype(case.dtype.numpy)
        if made[-1] is not None:
            rounded = made[-1][time]
            assert np.abs(rounded - exact).max() <= 0.5 + error / unit
        states = [rounded, *cell]
    if made[-1] is not None:
        assert len(np.unique(made[-1])) > min(4, case.hidden)
    np.testing.assert_array_equal(made[0], states[0])
    for got, want in zip(made[1:-1], states[1:], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=error)


def check_all(run: Callable[[Results], Results], graph: Graph) -> None:
    inputs = random_inputs(graph)
    results = run(inputs)
    for number, case in enumerate(CASES):
        check(graph.node(f"case_{number}"), case, inputs, results)


BOARDS = [pytest.param(name, marks=runnable(name)) for name in ("rpi4", "rpi5", "rpi-armv7")]


@pytest.mark.parametrize("threads", [1, 2])
def test_on_this_machine(tmp_path: Path, threads: int) -> None:
    graph = cases()
    module = graphopt.Module(graphopt.compile(graph, out=tmp_path / "cases.bundle").path)
    module.set_num_threads(threads)
    check_all(module, graph)


@pytest.mark.parametrize("name", BOARDS)
def test_on_other_machines(name: str, tmp_path: Path) -> None:
    graph = cases()
    check_all(EmulatedModule(graphopt.compile(graph, target=name, out=tmp_path / "cases.bundle")), graph)
