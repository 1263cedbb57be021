"""LSTM, GRU and RNN: every option against numpy, and numpy against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.targets.lower.kernels import Case, Outputs, assert_close, case, names, run_cases
from tests.targets.lower.recurrent_reference import evaluate

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
RANDOM = np.random.default_rng(3)


def tolerance(item: Case) -> float:
    """Of the output's scale, which is about one, as are the sums: 4 roundings for each product of a sum, through
    the steps, and one at the end."""
    x, r = item.operands[0], item.operands[2]
    assert x is not None and r is not None
    wide = np.finfo(np.promote_types(x.dtype, np.float32)).eps
    return 4 * (x.shape[2] + r.shape[2]) * wide + np.finfo(x.dtype).eps


def recurrent(
    op_type: str,
    steps: int = 5,
    batch: int = 2,
    inputs: int = 3,
    hidden: int = 4,
    *,
    dtype: type = np.float32,
    lengths: Sequence[int] | None = None,
    bias: bool = True,
    initial: bool = True,
    peepholes: bool = False,
    **attributes: object,
) -> Case:
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[op_type]

    def data(*shape: int) -> np.ndarray:
        return RANDOM.normal(0, min(0.6, shape[-1] ** -0.5), shape).astype(dtype)

    first = (batch, steps) if attributes.get("layout") else (steps, batch)
    state = (batch, directions) if attributes.get("layout") else (directions, batch)
    operands: list[np.ndarray | None] = [
        data(*first, inputs),
        data(directions, gates * hidden, inputs),
        data(directions, gates * hidden, hidden),
        data(directions, 2 * gates * hidden) if bias else None,
        None if lengths is None else np.asarray(lengths, np.int32),
        data(*state, hidden) if initial else None,
    ]
    if op_type == "LSTM":
        operands += [data(*state, hidden) if initial else None]
        operands += [data(directions, 3 * hidden) if peepholes else None]
    expected = evaluate(op_type, operands, attributes)
    return case(
        op_type, *operands, outputs=len(expected), expected=expected, hidden_size=hidden, **attributes
    )  # type: ignore[arg-type]


def both_ways(*functions: str) -> dict[str, object]:
    return {"direction": "bidirectional", "activations": functions * 2}


CASES = [
    *(recurrent(op) for op in GATES),
    recurrent("LSTM", direction="reverse"),
    *(recurrent(op, direction="bidirectional", lengths=(3, 5, 1), batch=3) for op in GATES),
    *(recurrent(op, direction="reverse", lengths=(0, 4)) for op in GATES),
    *(recurrent(op, layout=1, direction="bidirectional", lengths=(4, 2)) for op in GATES),
    *(recurrent(op, bias=False, initial=False, batch=1, inputs=1, hidden=1) for op in GATES),
    *(recurrent(op, batch=7, hidden=33, steps=2, clip=0.4) for op in GATES),
    *(recurrent(op, dtype=dtype) for op in GATES for dtype in (np.float16, np.float64)),
    recurrent("LSTM", steps=3, batch=1, hidden=256, inputs=16),
    recurrent("GRU", steps=3, batch=1, hidden=256, inputs=16),
    recurrent("GRU", linear_before_reset=1, direction="bidirectional", lengths=(2, 5), clip=0.7),
    recurrent("GRU", linear_before_reset=1, bias=False),
    recurrent("LSTM", peepholes=True, direction="bidirectional", lengths=(5, 3), clip=0.5),
    recurrent("LSTM", input_forget=1, peepholes=True),
    recurrent(
        "LSTM",
        activations=("HardSigmoid", "ScaledTanh", "Affine"),
        activation_alpha=(0.3, 1.5, 0.8),
        activation_beta=(0.4, 0.7, 0.1),
    ),
    recurrent("LSTM", activations=("Softsign", "LeakyRelu", "Elu"), activation_alpha=(0.2,)),
    recurrent("GRU", activations=("HardSigmoid", "Softplus")),
    recurrent("GRU", **both_ways("Sigmoid", "ThresholdedRelu"), activation_alpha=(0.3, 0.1)),
    recurrent("RNN", direction="bidirectional", activations=("Relu", "Tanh")),
    recurrent("RNN", activations=("Elu",), activation_alpha=(0.5,)),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_close(results[number], CASES[number], tolerance(CASES[number]))


def by_onnxruntime(item: Case) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    inputs = {f"x{k}": a for k, a in enumerate(item.operands) if a is not None}
    node = helper.make_node(
        item.op_type,
        ["" if a is None else f"x{k}" for k, a in enumerate(item.operands)],
        [f"y{k}" for k in range(item.outputs)],
        **item.attributes,
    )
    graph = helper.make_graph(
        [node],
        "case",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


JUDGED = [
    item for item in CASES if item.operands[0].dtype == np.float32 and not item.attributes.get("layout")
]  # type: ignore[union-attr]
"""What ONNX Runtime computes on the CPU: float32, steps first."""


@pytest.mark.parametrize("item", JUDGED, ids=str)
def test_the_reference_is_right(item: Case) -> None:
    assert_close(by_onnxruntime(item), item, tolerance(item))
