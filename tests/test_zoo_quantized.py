"""The zoo's 8-bit models answer as ONNX Runtime's integer kernels do, bit for bit.

ONNX Runtime runs a convolution between DequantizeLinear and QuantizeLinear in floats, unless its optimiser can make it
a QLinearConv. Sums of floats are off by a few units in the last place, which near a tie moves a number by a whole
step; in an early layer that grows. Measured on all test samples, with onnxruntime 1.32 on x86-64, the share of those
whose outputs differ anywhere:

    model                      samples   floats, optimised   floats, QLinearConv   ours, floats   ours, QLinearConv
    mlperf_resnet8_int8           2000              0.55 %                2.05 %         2.05 %                 0
    mlperf_vww_96_int8             120                   0                0.83 %         0.83 %                 0
    mlperf_kws_int8                 20                   0                     0              0                 0
    mlperf_ad01_int8                20                   0                (no convolutions)   0                 -

"floats" is the session without optimisation and "QLinearConv" the one with every convolution replaced. The tests
take the latter as oracle and allow no difference at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.tasks import samples
from graphopt.ir import Value
from graphopt.ir.fused import inline_fused
from graphopt.onnx_io.write import to_model
from graphopt.rewrite import Any, Builder, Const, Either, Match, Op, Rule, apply_rules
from graphopt.verification import runner
from tests.oracle import onnx_runtime
from tests.zoo import zoo_model

pytestmark = pytest.mark.zoo

SAMPLES = 200
LEAST = -128

MODELS = {"mlperf_resnet8": 9, "mlperf_vww_96": 27, "mlperf_kws": 9, "mlperf_ad01": 0}
"""Convolutions in each."""


def dequantized(name: str, *, constant: bool) -> Op:
    x = Const(name) if constant else Any(name)
    return Op("DequantizeLinear", x, Const(f"{name}_scale"), Const(f"{name}_zero"), shared=True)


class IntegerConvolution(Rule):
    """Q(Relu(Conv(DQ(x), DQ(w), DQ(b)))) --> QLinearConv(x, w, b), which saturates where Relu cuts off."""

    name = "integer-convolution"
    source = dequantized("x", constant=False)
    convolution = Op(
        "Conv",
        Either(source, Op("Transpose", source, bind="transpose")),
        dequantized("w", constant=True),
        dequantized("b", constant=True),
        bind="conv",
    )
    pattern = Op(
        "QuantizeLinear",
        Either(Op("Relu", convolution, bind="relu"), convolution),
        Const("y_scale"),
        Const("y_zero"),
    )

    def check(self, match: Match) -> str | None:
        return "Relu cuts off more" if match.has("relu") and match["y_zero"].scalar() != LEAST else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        x = match["x"]
        if match.has("transpose"):
            x = build.op("Transpose", x, **match.node("transpose").attributes)
        quantised = [match[f"{name}{part}"] for name in "xw" for part in ("", "_scale", "_zero")]
        operands = (x, *quantised[1:], match["y_scale"], match["y_zero"], match["b"])
        return build.op("QLinearConv", *operands, **match.node("conv").attributes)


def with_integer_kernels(path: Path, convolutions: int) -> bytes:
    """The model with all its convolutions replaced."""
    graph = graphopt.optimize(graphopt.load(path))
    inline_fused(graph)
    assert apply_rules(graph, [IntegerConvolution()]) == convolutions
    return to_model(graph).SerializeToString()


@pytest.mark.parametrize(("name", "convolutions"), MODELS.items())
def test_equals_integer_kernels(name: str, convolutions: int, tmp_path: Path) -> None:
    path = zoo_model(f"{name}_int8_qdq_op13")
    replaced = tmp_path / "integers.onnx"
    replaced.write_bytes(with_integer_kernels(path, convolutions))
    bundle = graphopt.compile(path, out=tmp_path / "m")
    oracle, (run, _) = onnx_runtime(replaced), runner(bundle)
    specs = {spec.name: (spec.dtype.numpy, spec.shape) for spec in bundle.abi.inputs}
    data = samples(path.stem, specs, split="test", count=SAMPLES)
    assert data.inputs
    for inputs in data.inputs:
        want, got = oracle(inputs), run(inputs)
        for output in want:
            np.testing.assert_array_equal(got[output], want[output])
