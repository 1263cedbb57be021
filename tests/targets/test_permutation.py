"""Transpose, Pack and Unpack in blocks of registers: exact, on axes that are no whole number of blocks long."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import KERNEL, DType, Graph, TensorType, Value
from graphopt.ir.layout import blocked_type, from_blocks, to_blocks
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target
from tests.passes.helpers import Draft
from tests.targets.compiled import run_compiled
from tests.targets.test_templates import machines

TRANSPOSES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((37, 50), (1, 0)),
    ((2, 19, 3, 23), (0, 2, 3, 1)),
    ((2, 17, 5, 33), (3, 0, 2, 1)),
    ((3, 21, 1, 40), (0, 3, 2, 1)),
    ((16, 2, 16), (2, 1, 0)),
    ((4, 18, 4, 20), (2, 3, 0, 1)),
)
IMAGES = ((1, 32, 5, 7), (2, 19, 4, 9), (1, 5, 3, 17), (1, 48, 16, 1))


def blocked(g: Draft, x: Value, op_type: str, type: TensorType) -> Value:
    return g._build.ops(op_type, x, outputs=1, domain=KERNEL, types=(type,))[0]


def network(lanes: int) -> Graph:
    """Every transposition, then every image packed, and one in blocks unpacked."""
    draft = Draft()
    for number, (shape, order) in enumerate(TRANSPOSES):
        dtype = DType.int32 if number % 2 else DType.float32
        draft.output(draft.op("Transpose", draft.input(*shape, dtype=dtype), perm=order))
    for shape in IMAGES:
        plain = TensorType(DType.float32, shape)
        x = draft.input(*shape)
        draft.output(blocked(draft, x, "Pack", blocked_type(plain, lanes)))
        kept = draft.graph.add_input(f"x{len(draft.graph.inputs)}", blocked_type(plain, lanes))
        draft.output(blocked(draft, kept, "Unpack", plain))
    return draft.graph


@pytest.fixture(scope="module", params=["host", "4 lanes"])
def machine(request: pytest.FixtureRequest) -> Target:
    return machines()[request.param]


@pytest.fixture(scope="module")
def results(machine: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    graph = network(machine.vector_bits // 32)
    compiled = compile_model([grouped_for(graph, machine)], machine, "moves")
    assert sum("permutation" in s for s in compiled.schedules.values()) == len(TRANSPOSES) + 2 * len(IMAGES)
    return run_compiled(compiled, random_inputs(graph), tmp_path_factory.mktemp("moves"))


def test_every_element_is_in_its_place(machine: Target, results: dict[str, np.ndarray]) -> None:
    lanes = machine.vector_bits // 32
    inputs = list(random_inputs(network(lanes)).values())
    made = list(results.values())
    for (_, order), x, y in zip(TRANSPOSES, inputs, made, strict=False):
        np.testing.assert_array_equal(y, x.transpose(order))
    for number, shape in enumerate(IMAGES):
        place = len(TRANSPOSES) + 2 * number
        np.testing.assert_array_equal(made[place], to_blocks(inputs[place], lanes))
        np.testing.assert_array_equal(made[place + 1], from_blocks(inputs[place + 1], shape[1]))
