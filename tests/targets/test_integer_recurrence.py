"""LSTM and GRU of bytes: each step against the reference from the same state, odd sizes and other machines.

What a step leaves behind is the nearest byte to what the reference makes of the state before, but for the units in the
last place that functions may be off: so the test follows the kernel, whose next step begins with its own bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import QUANT, DType, Node, TensorType
from graphopt.ir.fused import body_of, is_fused
from graphopt.runtime.reference import random_inputs
from graphopt.runtime.reference_recurrent import recurrence, step, times
from graphopt.targets.device import Target, load_target
from graphopt.targets.fuse import fuse
from graphopt.targets.kernels import constant_operands
from graphopt.targets.schedules.templates import choose
from graphopt.targets.schedules.templates.dot import Dot
from graphopt.targets.schedules.templates.dot.portable import PortableDot
from graphopt.targets.schedules.templates.dot.vnni import QuadDot
from graphopt.targets.schedules.templates.integer_panels import Reading
from graphopt.targets.schedules.templates.integer_recurrence import IntegerRecurrence
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.raw_kernels import Call, run_kernels

GATES = {"LSTM": 4, "GRU": 3}
EPSILON = float(np.finfo(np.float32).eps)

ULPS = 16
"""Of a step: three functions within four units each, and the roundings of four operations."""

H_SCALE = 2.0**-7

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    op_type: str
    steps: int
    batch: int
    hidden: int
    dtype: DType = DType.int8
    zero: int = -5
    reverse: bool = False
    keeps_floats: bool = False
    """Of the states of all steps."""

    @property
    def kept(self) -> DType:
        return DType.float32 if self.keeps_floats else self.dtype

    def add_to(self, g: Draft, name: str, outputs: Sequence[int]) -> None:
        """The node, with some of its outputs as those of the graph: the last states, and those of all steps (-1)."""
        columns, rows = GATES[self.op_type] * self.hidden, (self.batch, self.hidden)
        bounds = np.iinfo(self.dtype.numpy)
        operands = [
            g.input(self.steps, self.batch, columns),
            g.const(g.random.integers(-127, 128, (self.hidden, columns)), np.int8),
            g.const(g.random.integers(-3000, 3000, columns), np.int32),
            g.const(g.random.uniform(0.5, 1.0, columns) / (4000 * np.sqrt(self.hidden))),
            g.const(g.random.integers(bounds.min, bounds.max + 1, rows), self.dtype.numpy),
        ]
        types = [TensorType(self.dtype, rows), TensorType(self.kept, (self.steps, *rows))]
        if self.op_type == "LSTM":
            operands.append(g.input(*rows))
            types.insert(1, TensorType(DType.float32, rows))
        attributes = {"h_scale": H_SCALE, "h_zero_point": self.zero, "reverse": int(self.reverse)}
        node = g.graph.add(self.op_type, operands, attributes, types=types, domain=QUANT, name=name)
        for number in outputs:
            value = node.outputs[number]
            g.graph.add_output(value, f"{name}.{node.outputs.index(value)}")


def unsigned(*sizes: object, **options: object) -> Case:
    return Case(*sizes, **options, dtype=DType.uint8, zero=131)  # type: ignore[arg-type]


CASES = (
    Case("LSTM", 5, 1, 1),
    unsigned("LSTM", 6, 3, 13, reverse=True),
    Case("LSTM", 3, 9, 40),
    unsigned("LSTM", 20, 1, 64),
    Case("LSTM", 2, 1, 384),  # on threads
    unsigned("GRU", 5, 1, 1),
    Case("GRU", 7, 5, 21, reverse=True),
    unsigned("GRU", 20, 1, 48),
    unsigned("LSTM", 6, 3, 13, reverse=True, keeps_floats=True),
    Case("GRU", 7, 5, 21, keeps_floats=True),
)


def operands_of(node: Node, inputs: Arrays) -> list[np.ndarray]:
    values = [value for value in node.inputs if value is not None]
    return [inputs[value.name] if value.constant is None else value.constant for value in values]


def check(node: Node, case: Case, inputs: Arrays, results: Arrays) -> None:
    """`results` has those outputs of `node` that are looked at, by its name and their number."""
    x, *product = operands_of(node, inputs)
    product, states = product[:3], product[3:]
    last, *cells, every = (results.get(f"{node.name}.{number}") for number in range(len(node.outputs)))
    bounds, error = np.iinfo(case.dtype.numpy), 0.0
    for count, time in enumerate(times(node, case.steps), 1):
        made, *cell = step(node, x[time], product, states)
        error = count * ULPS * EPSILON * max([1.0, *(float(np.abs(c).max()) for c in cell)])
        exact = np.clip(made / np.float32(H_SCALE) + case.zero, bounds.min, bounds.max)
        if every is not None and case.keeps_floats:
            np.testing.assert_allclose(every[time], made, rtol=0, atol=error)
            exact = np.clip(every[time] / np.float32(H_SCALE) + case.zero, bounds.min, bounds.max)
        is_known = every is not None and not case.keeps_floats
        rounded = every[time] if is_known else np.rint(exact).astype(case.dtype.numpy)  # type: ignore[index]
        assert np.abs(rounded - exact).max() <= 0.5 + error / H_SCALE, case
        states = [rounded, *cell]
    assert every is None or len(np.unique(every)) > min(4, case.hidden)
    if last is not None:
        np.testing.assert_array_equal(last, states[0])
    for got, want in zip(cells, states[1:], strict=True):
        if got is not None:
            np.testing.assert_allclose(got, want, rtol=0, atol=error)


@dataclass(frozen=True)
class Kernel:
    """A case as the one group it becomes, whose only result is the states of all steps."""

    case: Case
    node: Node
    group: Node
    inputs: Arrays

    @classmethod
    def of(cls, case: Case) -> Kernel:
        draft = Draft()
        case.add_to(draft, "case", (-1,))
        grouped = draft.graph.clone()
        fuse(grouped)
        (group,) = (node for node in grouped.nodes if is_fused(node))
        return cls(case, draft.graph.node("case"), group, random_inputs(draft.graph))

    def template(self, target: Target) -> IntegerRecurrence:
        choice = choose(body_of(self.group), constant_operands(self.group), target)
        assert choice is not None and isinstance(choice.template, IntegerRecurrence)
        return choice.template

    def call(self, template: IntegerRecurrence, **chosen: int) -> Call:
        decision = {**template.defaults(), **chosen}
        packed = template.pack(decision, constant_operands(self.group))
        operands = operands_of(self.group, self.inputs)
        given = [packed.get(number, array) for number, array in enumerate(operands)]
        result = recurrence(self.node, operands_of(self.node, self.inputs))[-1]
        return Call(template.build(decision), given, result)


@cache
def kernels() -> list[Kernel]:
    return [Kernel.of(case) for case in CASES]


def check_calls(calls: Mapping[str, Call], target: Target, folder: Path) -> None:
    """By the number of the kernel that a call is of, and whatever tells it from others of that."""
    for name, states in run_kernels(calls, target, folder).items():
        kernel = kernels()[int(name.split("_")[1])]
        check(kernel.node, kernel.case, kernel.inputs, {f"case.{len(kernel.node.outputs) - 1}": states})


BOARDS = [
    pytest.param(name, marks=runnable(name))
    for name in ("x86-64-v2", "rpi4", "rpi5", "aarch64-v8.6", "rpi-armv7")
]


@pytest.mark.parametrize("name", ["host", *BOARDS])
def test_every_step(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    calls = {f"case_{n}": kernel.call(kernel.template(target)) for n, kernel in enumerate(kernels())}
    check_calls(calls, target, tmp_path)


def test_tiles_of_other_sizes(tmp_path: Path) -> None:
    target = load_target("host")
    calls = {}
    for number in (1, 6):
        kernel = kernels()[number]
        for units in (1, 4):
            calls[f"case_{number}_{units}"] = kernel.call(kernel.template(target), units=units, columns=2)
    check_calls(calls, target, tmp_path)


@pytest.mark.parametrize("dot", [QuadDot(16, 4, emulated=True), PortableDot(8, 4)], ids=str)
def test_instructions_this_machine_may_lack(dot: Dot, tmp_path: Path) -> None:
    host = load_target("host")
    target = dataclasses.replace(host, vector_bits=512, vector_registers=32)
    calls = {}
    for number, kernel in enumerate(kernels()):
        shift = 128 if kernel.case.dtype is DType.int8 and isinstance(dot, QuadDot) else 0
        template = dataclasses.replace(kernel.template(target), readings=(Reading(dot, shift),))
        calls[f"case_{number}"] = kernel.call(template)
    check_calls(calls, host, tmp_path)


@pytest.mark.parametrize("outputs", [(0, 1, -1), (0,)], ids=["all", "last"])
def test_results_of_a_library(outputs: tuple[int, ...], tmp_path: Path) -> None:
    """All results of each case, or the last states alone; on two threads."""
    draft = Draft()
    for number, case in enumerate(CASES):
        wanted = outputs if case.op_type == "LSTM" else [n for n in outputs if n != 1]
        case.add_to(draft, f"case_{number}", wanted)
    inputs = random_inputs(draft.graph)
    module = graphopt.Module(graphopt.compile(draft.graph, out=tmp_path / "cases.bundle").path)
    module.set_num_threads(2)
    results = module(inputs)
    for number, case in enumerate(CASES):
        check(draft.graph.node(f"case_{number}"), case, inputs, results)
