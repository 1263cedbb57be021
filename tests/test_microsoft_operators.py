"""Models as ONNX Runtime's own quantiser writes them: every operator on bytes against ONNX Runtime's kernel for it.

Sums of integers are equal to the bit; weights have 7 bits, for with 8 ONNX Runtime saturates on processors without
VNNI. Where ONNX Runtime computes in floats it works with tables, fixed-point
factors or factors of its own rounding, so that a number may be one step off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import graphopt
from bench.oracles import onnx_runtime
from graphopt.errors import UnsupportedError
from graphopt.onnx_io.write import to_bytes
from graphopt.verification import runner

MICROSOFT = "com.microsoft"
RANDOM = np.random.default_rng(8)


def bytes_of(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    bounds = np.iinfo(dtype)
    return RANDOM.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.integers(-64, 64, shape).astype(np.int8)


@dataclass
class Case:
    """A node: operands that are read at run time come first by name, all others are constants or left out."""

    op_type: str
    operands: tuple[np.ndarray | float | None, ...]
    data: tuple[int, ...]
    steps: float = 1
    domain: str = MICROSOFT
    attributes: Mapping[str, object] = field(default_factory=dict)


IMAGE, ROWS = bytes_of(1, 6, 7, 5), bytes_of(3, 20)
W, B = weights(4, 6, 3, 3), RANDOM.integers(-9999, 9999, 4).astype(np.int32)
DENSE = weights(20, 9)
EACH = RANDOM.uniform(0.001, 0.004, 9).astype(np.float32)
Z = np.uint8
ZEROS = np.zeros(9, np.int8)
Y, S = (np.float32(0.1), Z(101)), (np.float32(0.02), Z(130))

POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
FLOATS = RANDOM.normal(size=(3, 20)).astype(np.float32)

CASES = [
    Case("QLinearConv", (IMAGE, *S, W, EACH[:4], ZEROS[:4], *Y, B), (0,), 0, "", {"pads": [1, 1, 1, 1]}),
    Case("QLinearMatMul", (ROWS, *S, DENSE, np.float32(0.003), np.int8(3), *Y), (0,), 0, ""),
    Case("QGemm", (ROWS, *S, DENSE, EACH, ZEROS, RANDOM.integers(-9999, 9999, 9).astype(np.int32), *Y), (0,), 0),
    Case("QGemm", (ROWS, *S, DENSE.T.copy(), EACH[0], np.int8(0)), (0,), 0, attributes={"transB": 1}),
    Case("QLinearAdd", (IMAGE, *S, bytes_of(6, 1, 5), np.float32(0.03), Z(7), *Y), (0, 3)),
    Case("QLinearMul", (ROWS, *S, bytes_of(3, 20), np.float32(0.03), Z(7), *Y), (0, 3)),
    Case("QLinearAveragePool", (IMAGE, *S, np.float32(0.02), Z(120)), (0,), attributes=POOL),
    Case("QLinearGlobalAveragePool", (IMAGE, *S, *S), (0,)),
    Case("QLinearGlobalAveragePool", (bytes_of(1, 7, 5, 6), *S, *S), (0,), attributes={"channels_last": 1}),
    Case("QLinearConcat", (*S, ROWS, *S, bytes_of(3, 4), *Y), (2, 5), attributes={"axis": 1}),
    Case("QLinearSigmoid", (ROWS, *S, np.float32(1 / 256), Z(0)), (0,)),
    Case("QLinearLeakyRelu", (ROWS, *S, *S), (0,), attributes={"alpha": 0.2}),
    Case("QLinearSoftmax", (ROWS, *Y, np.float32(1 / 256), Z(0)), (0,), attributes={"axis": -1, "opset": 13}),
    Case("QLinearWhere", (np.array([True, False] * 10), ROWS, *S, bytes_of(3, 20), *Y, *Y), (0, 1, 4)),
    Case("MatMulIntegerToFloat", (ROWS, DENSE, np.float32(0.1), EACH, Z(99), ZEROS, EACH), (0,), 1e-5),
    Case("DynamicQuantizeMatMul", (FLOATS, DENSE, EACH, ZEROS, EACH), (0,), 1e-5),
    Case("DequantizeLinear", (bytes_of(3, 20, dtype=np.uint16), np.float32(0.1), np.uint16(77)), (0,), 0),
]  # fmt: skip


def model_of(cases: list[Case]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    nodes, inputs, outputs, constants, data = [], [], [], [], {}
    for number, item in enumerate(cases):
        names = []
        for index, operand in enumerate(item.operands):
            name = f"n{number}_{index}"
            array = np.asarray(operand)
            if index in item.data:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
                data[name] = array
            else:
                constants.append(numpy_helper.from_array(array, name))
            names.append(name)
        nodes.append(
            helper.make_node(item.op_type, names, [f"y{number}"], domain=item.domain, **item.attributes)
        )
        outputs.append(helper.make_empty_tensor_value_info(f"y{number}"))
    graph = helper.make_graph(nodes, "operators", inputs, outputs, constants)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9), data


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    model, data = model_of(CASES)
    want = onnx_runtime(model.SerializeToString())(data)
    bundle = graphopt.compile(model.SerializeToString(), out=tmp_path_factory.mktemp("operators") / "m")
    return runner(bundle)[0](data), want


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c.op_type}-{n}" for n, c in enumerate(CASES)])
def test_operator(number: int, answers: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    got, want = (found[f"y{number}"] for found in answers)
    assert got.dtype == want.dtype and got.shape == want.shape
    assert len(np.unique(want)) > 2
    assert np.abs(got.astype(np.float64) - want).max() <= CASES[number].steps


def test_they_become_onnx() -> None:
    """Nothing of another domain is left in what is exported, and ONNX Runtime runs it."""
    model, data = model_of(CASES)
    graph = graphopt.optimize(graphopt.load(model.SerializeToString()))
    assert {node.domain for node in graph.all_nodes()} <= {"", "graphopt.kernel"}
    assert onnx_runtime(to_bytes(graph))(data)


@pytest.mark.parametrize("attributes", [{"axes": [2, 3]}, {"axes": [-1], "keepdims": 0}, {}])
def test_reduce_mean(attributes: dict[str, object], tmp_path: Path) -> None:
    """ONNX Runtime defines it and has no kernel: against exact numbers, which are rounded once."""
    model, data = model_of([Case("QLinearReduceMean", (IMAGE, *S, *Y), (0,), attributes=attributes)])
    got = runner(graphopt.compile(model.SerializeToString(), out=tmp_path / "m"))[0](data)["y0"]
    axes, keep = attributes.get("axes"), bool(attributes.get("keepdims", 1))
    mean = np.mean(IMAGE.astype(np.float64), axis=axes and tuple(axes), keepdims=keep)  # type: ignore[arg-type]
    exact = (mean - 130) * 0.02 / 0.1 + 101
    assert got.shape == exact.shape and np.abs(got - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("operator", ["QAttention", "QEmbedLayerNormalization", "DynamicQuantizeLSTM"])
def test_what_has_no_spelling_is_named_with_the_way_out(operator: str) -> None:
    model, _ = model_of([Case(operator, (FLOATS,), (0,))])
    told = (
        f"node '.*' \\(com.microsoft::{operator}\\): there is no kernel .*ONNX Runtime's own.*QuantFormat.QDQ"
    )
    with pytest.raises(UnsupportedError, match=told) as raised:
        graphopt.compile(model.SerializeToString())
    assert "\n" not in str(raised.value)
