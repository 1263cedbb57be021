"""The zoo's 8-bit models answer as ONNX Runtime's integer kernels do, bit for bit (`graphopt/integer_oracle.py`).

Measured on all test samples, with onnxruntime 1.32 on x86-64, the share of those whose outputs differ anywhere:

    model                      samples   floats, QLinearConv   ours, floats   ours, QLinearConv   ours, all integers
    mlperf_resnet8_int8           2000                2.05 %         2.05 %                   0              13.45 %
    mlperf_vww_96_int8             120                0.83 %         0.83 %                   0                    0
    mlperf_kws_int8                 20                     0              0                   0                    0
    mlperf_ad01_int8                20    (no convolutions)              0                   -                    0

"floats" is the session without optimisation, "QLinearConv" the one with every convolution replaced. "all integers" is
the optimised session that may use int8 (`session.qdqisint8allowed`): additions, pools and softmax become operators of
ONNX Runtime's own, QLinearAdd and the like, which do not round as the file's operators do. The tests take QLinearConv
as oracle and allow no difference at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.oracles import onnx_runtime
from bench.tasks import samples
from graphopt.integer_oracle import integer_kernels
from graphopt.verification import runner
from tests.zoo import zoo_model

pytestmark = pytest.mark.zoo

SAMPLES = 200

MODELS = {"mlperf_resnet8": 9, "mlperf_vww_96": 27, "mlperf_kws": 9, "mlperf_ad01": 0}
"""Convolutions in each."""


@pytest.mark.parametrize(("name", "convolutions"), MODELS.items())
def test_equals_integer_kernels(name: str, convolutions: int, tmp_path: Path) -> None:
    path = zoo_model(f"{name}_int8_qdq_op13")
    integers = integer_kernels(path)
    assert integers is not None
    assert integers.replaced == convolutions
    assert all(node.op_type == "MatMul" for node in integers.left)
    bundle = graphopt.compile(path, out=tmp_path / "m")
    oracle, (run, _) = onnx_runtime(integers.model), runner(bundle)
    specs = {spec.name: (spec.dtype.numpy, spec.shape) for spec in bundle.abi.inputs}
    data = samples(path.stem, specs, split="test", count=SAMPLES)
    assert data.inputs
    for inputs in data.inputs:
        want, got = oracle(inputs), run(inputs)
        for output in want:
            np.testing.assert_array_equal(got[output], want[output])
