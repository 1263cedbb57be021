"""Running the kernels of single operators: many nodes, one library for this machine, one run.

    CASES = [case("Gather", x, indices, axis=1), case("Slice", x, starts, ends)]

    @pytest.fixture(scope="module")
    def results() -> list[Outputs]:
        return run_cases(CASES)

    @pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
    def test_kernel(number: int, results: list[Outputs]) -> None:
        assert_same(results[number], CASES[number])

Structural operands become constants of the kernel, everything else is data it reads at run time.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphopt.ir import ONNX, Attribute, DType, Graph, Node, TensorType
from graphopt.ir.fused import body_of, fuse_nodes
from graphopt.ir.structural import structural_inputs
from graphopt.runtime.reference import evaluate_node
from graphopt.targets.aot import compile_model
from graphopt.targets.device import load_target

OPSET = 28
ALIGNMENT = 64
THREADS = 2

Outputs = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """One node: operator, operands (None: left out), attributes. `fixed` operands are constants too.

    `expected` are the right outputs; None: whatever the reference evaluator says.
    """

    op_type: str
    operands: tuple[np.ndarray | None, ...]
    attributes: dict[str, Attribute] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ONNX
    fixed: tuple[int, ...] = ()
    expected: tuple[np.ndarray, ...] | None = None

    def __str__(self) -> str:
        types = (
            "-" if a is None else f"{DType.of(a.dtype)}[{','.join(map(str, a.shape))}]" for a in self.operands
        )
        told = (f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.op_type}({', '.join([*types, *told])})"


def case(
    op_type: str,
    *operands: np.ndarray | Sequence | float | None,
    outputs: int = 1,
    domain: str = ONNX,
    fixed: tuple[int, ...] = (),
    expected: Sequence[np.ndarray] | None = None,
    **attributes: Attribute,
) -> Case:
    """A case; operands that are lists of ints become int64 tensors."""
    arrays = tuple(None if a is None else np.asarray(a) for a in operands)
    right = None if expected is None else tuple(expected)
    return Case(op_type, arrays, attributes, outputs, domain, fixed, right)


def names(cases: Sequence[Case]) -> list[str]:
    return [str(item) for item in cases]


def expected_of(item: Case) -> Outputs:
    """The right outputs of a case."""
    if item.expected is not None:
        return list(item.expected)
    node = _add(Graph("case", opset=OPSET), item, [])
    return evaluate_node(node, item.operands)


def run_cases(cases: Sequence[Case], threads: int = THREADS) -> list[Outputs]:
    """Compile every case as a kernel of its own into one library, run that once; each case's outputs.

    Memory that kernels write is filled with 0x5A first, so that what they leave out shows.
    """
    graph, data = _graph_of(cases)
    compiled = compile_model([graph], load_target("host"), "cases")
    results = [np.full(_bytes(t.nbytes), 0x5A, np.uint8) for t in compiled.abi.outputs]
    workspace = _aligned(compiled.abi.workspace_bytes)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "libcases.so"
        path.write_bytes(compiled.library)
        library = ctypes.CDLL(str(path))
        failed = library.cases_run(
            _pointers(data),
            _pointers(results),
            ctypes.c_void_p(workspace.ctypes.data),
            ctypes.c_size_t(compiled.abi.workspace_bytes),
            ctypes.c_int(threads),
        )
    assert failed == 0
    arrays = [
        raw[: spec.nbytes].view(spec.dtype.numpy).reshape(spec.shape)
        for raw, spec in zip(results, compiled.abi.outputs, strict=True)
    ]
    rest = iter(arrays)
    return [[next(rest) for _ in range(item.outputs)] for item in cases]


def kernel_of(item: Case) -> str:
    """The scheduled kernel of a case for this machine, as TVM's script."""
    from graphopt.targets.lower import lower_body
    from graphopt.targets.schedules import schedule

    graph, _ = _graph_of([item])
    group = graph.last
    assert group is not None
    body = body_of(group)
    return schedule(lower_body(body), body, load_target("host")).script()


def assert_same(outputs: Outputs, item: Case) -> None:
    """Every output has the right type, shape and elements, NaNs and the sign of zero included."""
    for number, (got, want) in enumerate(zip(outputs, expected_of(item), strict=True)):
        _assert_type(got, want)
        same = _bits(got) == _bits(want)
        assert same, f"output {number} of {item}:\n{got}\nexpected\n{want}"


def assert_close(outputs: Outputs, item: Case, tolerance: float) -> None:
    """Every output is right up to `tolerance` times its largest element; integers and infinities exactly."""
    for number, (got, want) in enumerate(zip(outputs, expected_of(item), strict=True)):
        _assert_type(got, want)
        if want.dtype.kind in "biu":
            np.testing.assert_array_equal(got, want, err_msg=f"output {number} of {item}")
            continue
        a, b = got.astype(np.float64), want.astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=f"output {number} of {item}")


def _bits(array: np.ndarray) -> bytes:
    """The bytes of the elements; those of 4 and 2 bits say nothing in the rest of their byte."""
    dtype = DType.of(array.dtype)
    return array.astype(np.int8 if dtype.is_integer and dtype.bits < 8 else array.dtype).tobytes()


def _assert_type(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape


def _graph_of(cases: Sequence[Case]) -> tuple[Graph, list[np.ndarray]]:
    """A graph of one fused group per case, and its inputs' data."""
    graph = Graph("cases", opset=OPSET)
    data: list[np.ndarray] = []
    for item in cases:
        node = _add(graph, item, data)
        for value, array in zip(node.outputs, expected_of(item), strict=True):
            value.type = TensorType(DType.of(array.dtype), array.shape)
            graph.add_output(value)
        fuse_nodes(graph, [node])
    return graph, data


def _add(graph: Graph, item: Case, data: list[np.ndarray]) -> Node:
    """Add the case's node; the operands that are not constants are appended to `data`."""
    node = graph.add(
        item.op_type,
        [],
        item.attributes,
        types=(None,) * item.outputs,
        domain=item.domain,
        name=f"{item.op_type}{len(graph)}",
    )
    for index, array in enumerate(item.operands):
        if array is None:
            continue
        if index in structural_inputs(node) or index in item.fixed:
            node.set_input(index, graph.add_constant(array))
        else:
            type = TensorType(DType.of(array.dtype), array.shape)
            node.set_input(index, graph.add_input(f"x{len(graph.inputs)}", type))
            data.append(np.ascontiguousarray(array).reshape(array.shape))
    return node


def _pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _bytes(size: int) -> int:
    return max(size, 1)


def _aligned(size: int) -> np.ndarray:
    buffer = np.full(size + ALIGNMENT, 0x5A, np.uint8)
    return buffer[-buffer.ctypes.data % ALIGNMENT :]
