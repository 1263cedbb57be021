"""Transpose, Pack and Unpack in blocks of registers: exact, on axes that are no whole number of blocks long."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import KERNEL, DType, Graph, TensorType, Value
from graphopt.ir.layout import blocked_type, from_blocks, to_blocks
from graphopt.preparation import grouped_for
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
MOVES = (*TRANSPOSES, *(move for move in TRANSPOSES if min(move[0][-1], move[0][move[1][-1]]) >= 16))
"""Those of words, then those of bytes that are long enough for a row of a block."""
IMAGES = ((1, 32, 5, 7), (2, 19, 4, 9), (1, 5, 3, 17), (1, 48, 16, 1))
BYTE_BLOCK = 16
TYPES = (DType.float32, DType.int32)
KINDS = tuple((shape, dtype) for dtype in (DType.float32, DType.uint8) for shape in IMAGES)
"""Images of floats in blocks of the machine's lanes, those of bytes in blocks of 16."""


def blocked(g: Draft, x: Value, op_type: str, type: TensorType) -> Value:
    return g._build.ops(op_type, x, outputs=1, domain=KERNEL, types=(type,))[0]


def network(lanes: int) -> Graph:
    """Every transposition of words and of bytes, then every image packed, and one in blocks unpacked."""
    draft = Draft()
    for number, (shape, order) in enumerate(MOVES):
        dtype = DType.int8 if number >= len(TRANSPOSES) else TYPES[number % 2]
        draft.output(draft.op("Transpose", draft.input(*shape, dtype=dtype), perm=order))
    for shape, dtype in KINDS:
        plain = TensorType(dtype, shape)
        x = draft.input(*shape, dtype=dtype)
        type = blocked_type(plain, block_of(dtype, lanes))
        draft.output(blocked(draft, x, "Pack", type))
        kept = draft.graph.add_input(f"x{len(draft.graph.inputs)}", type)
        draft.output(blocked(draft, kept, "Unpack", plain))
    return draft.graph


def block_of(dtype: DType, lanes: int) -> int:
    return lanes if dtype is DType.float32 else BYTE_BLOCK


def numbers(graph: Graph) -> dict[str, np.ndarray]:
    """All that a byte can hold."""
    random = np.random.default_rng(6)
    return {
        v.name: random.normal(size=v.static_shape).astype(np.float32)
        if v.dtype is DType.float32
        else random.integers(0, 256, v.static_shape).astype(v.dtype.numpy)
        for v in graph.inputs
    }


@pytest.fixture(scope="module", params=["host", "4 lanes"])
def machine(request: pytest.FixtureRequest) -> Target:
    return machines()[request.param]


@pytest.fixture(scope="module")
def results(machine: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    graph = network(machine.vector_bits // 32)
    compiled = compile_model([grouped_for(graph, machine)], machine, "moves")
    assert sum("permutation" in s for s in compiled.schedules.values()) == len(MOVES) + 2 * len(KINDS)
    return run_compiled(compiled, numbers(graph), tmp_path_factory.mktemp("moves"))


def test_every_element_is_in_its_place(machine: Target, results: dict[str, np.ndarray]) -> None:
    lanes = machine.vector_bits // 32
    inputs = list(numbers(network(lanes)).values())
    made = list(results.values())
    for (_, order), x, y in zip(MOVES, inputs, made, strict=False):
        np.testing.assert_array_equal(y, x.transpose(order))
    for number, (shape, dtype) in enumerate(KINDS):
        place = len(MOVES) + 2 * number
        np.testing.assert_array_equal(made[place], to_blocks(inputs[place], block_of(dtype, lanes)))
        np.testing.assert_array_equal(made[place + 1], from_blocks(inputs[place + 1], shape[1]))
