"""Checking rules: a small graph in, what must come out of it, and what must stay as it is.

`check_fires` compares the rewritten graph with a golden text (`pytest --update-golden` refreshes it) and the outputs
before and after with each other. `check_stays` demands that the rule declines, for the reason given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from graphopt.ir import DType, Graph, Origin, TensorType, Value, verify
from graphopt.ir.text import to_text
from graphopt.onnx_io.write import to_model
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Builder
from graphopt.runtime.reference import random_inputs, run

GOLDEN = Path(__file__).parent / "golden"

DIMS = {"N": 2, "M": 3}

NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")

UNIT = float(np.finfo(np.float32).eps)


class Draft:
    """A graph under construction, with weights of a fixed seed."""

    def __init__(self) -> None:
        self.graph = Graph("case", opset=24)
        self.random = np.random.default_rng(7)
        self._build = Builder(self.graph, None, Origin("", ("case",)))

    def input(self, *shape: int | str, dtype: DType = DType.float32) -> Value:
        return self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(dtype, shape))

    def weight(self, *shape: int, positive: bool = False) -> Value:
        data = self.random.normal(size=shape)
        return self._build.const((np.abs(data) + 0.5 if positive else data).astype(np.float32), name="w")

    def const(self, data: object, dtype: type = np.float32) -> Value:
        return self._build.const(np.asarray(data, dtype), name="c")

    def ints(self, *data: int) -> Value:
        return self.const(data, np.int64)

    def op(self, op_type: str, *inputs: Value | None, **attributes: object) -> Value:
        return self._build.op(op_type, *inputs, **attributes)  # type: ignore[arg-type]

    def ops(
        self, op_type: str, *inputs: Value | None, outputs: int, **attributes: object
    ) -> tuple[Value, ...]:
        return self._build.ops(op_type, *inputs, outputs=outputs, **attributes)  # type: ignore[arg-type]

    def output(self, *values: Value) -> None:
        for value in values:
            self.graph.add_output(value)


Build = Callable[[Draft], Value]
"""Builds a graph; the value returned becomes its output, unless it has outputs already."""


def made(build: Build) -> Graph:
    draft = Draft()
    result = build(draft)
    if not draft.graph.outputs:
        draft.output(result)
    verify(draft.graph)
    return draft.graph


def outputs_of(graph: Graph, dims: dict[str, int]) -> dict[str, np.ndarray]:
    return run(graph, random_inputs(graph, dims=dims))


def check_fires(
    spec: str,
    rule: str,
    build: Build,
    golden: str,
    update: bool,
    *,
    tolerance: float | None = None,
    exported: bool = True,
) -> None:
    """`rule` of the pass `spec` fires, the graph becomes the golden one, and computes the same.

    The tolerance is relative to the output's scale. Without one it is 64 units in the last place: each output of
    these graphs is a sum of at most 64 products, each rounded once before and once after the rewrite. Unless `exported`
    is false the result can be written as ONNX.
    """
    graph = made(build)
    before = outputs_of(graph, DIMS)
    record = parse_pipeline(spec, catalog()).run(graph, explain=(rule,))
    fired = record.statistics().fired
    assert fired[rule], [a.reason for a in record.statistics().attempts]
    compare_golden(to_text(graph, weights="digest"), golden, update)
    after = outputs_of(graph, DIMS)
    limit = 64 * UNIT if tolerance is None else tolerance
    assert list(after) == list(before)
    for name, want in before.items():
        assert after[name].shape == want.shape and after[name].dtype == want.dtype
        scale = max(np.abs(want.astype(float)).max(initial=0.0), 1e-6)
        assert np.abs(after[name].astype(float) - want).max(initial=0.0) <= limit * scale, name
    if exported:
        to_model(graph)


def check_stays(spec: str, rule: str, build: Build, reason: str) -> None:
    """`rule` declines everywhere, at least once because of `reason`."""
    graph = made(build)
    record = parse_pipeline(spec, catalog()).run(graph, explain=(rule,))
    statistics = record.statistics()
    assert not statistics.fired[rule]
    reasons = [attempt.reason for attempt in statistics.attempts if attempt.rule == rule]
    assert any(reason in given for given in reasons), reasons


def compare_golden(text: str, name: str, update: bool, *, tolerance: float = 0.0) -> None:
    """`text` is the golden one; numbers that were measured on this machine may differ by `tolerance`, relative."""
    path = GOLDEN / f"{name}.txt"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"{path.name} is missing: run pytest --update-golden"
    golden = path.read_text()
    if not tolerance:
        assert text == golden
        return
    assert NUMBER.sub("#", text) == NUMBER.sub("#", golden)
    numbers, wanted = (np.array(NUMBER.findall(t), np.float64) for t in (text, golden))
    np.testing.assert_allclose(numbers, wanted, rtol=tolerance)
