"""Quantised convolutions as sums of integers, for an oracle that is exact.

ONNX Runtime, its optimisations off, runs a convolution between DequantizeLinear and QuantizeLinear in floats. Such sums
are off by a few units in the last place, which near a tie moves a number by a whole step. The sums that the file means
are of integers, and ONNX Runtime has the kernel for them: QLinearConv. `integer_kernels` puts it into the model as it
was read, before any pass, and leaves all else in the floats that the file prescribes. Its kernels for uint8 x int8
saturate on processors with AVX2 and without VNNI; those for uint8 x uint8 do not, so weights are moved there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.ir import DType, Graph, Node, Value
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import to_model
from graphopt.rewrite import Any, Builder, Const, Either, Match, Op, Rule, apply_rules

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

SAME_SCALE = 2.0**-22
"""Relative: a bias has the product of two scales for its own, rounded to float32 once or twice."""


@dataclass(frozen=True)
class IntegerKernels:
    """The model with integer kernels: how many of its quantised sums became integers, and which stayed floats."""

    model: bytes
    replaced: int
    left: tuple[Node, ...]

    def __str__(self) -> str:
        total = self.replaced + len(self.left)
        return f"integers {self.replaced}/{total}" if self.replaced else "floats"


def integer_kernels(path: Path) -> IntegerKernels | None:
    """The model with its quantised convolutions as QLinearConv; None when nothing in it is quantised.

    What is no convolution, or does not fit `IntegerConvolution`, stays as the file has it.
    """
    graph = read_model(path)
    if not _quantised_sums(graph):
        return None
    replaced = apply_rules(graph, [IntegerConvolution()])
    return IntegerKernels(to_model(graph).SerializeToString(), replaced, _quantised_sums(graph))


def _quantised_sums(graph: Graph) -> tuple[Node, ...]:
    sums = (node for node in graph.nodes if node.op_type in PRODUCTS and not node.domain)
    return tuple(node for node in sums if _dequantized(node.input(0)) and _dequantized(node.input(1)))


def _dequantized(value: Value | None) -> bool:
    """Is it made by DequantizeLinear, or moved about behind one?"""
    while value is not None and value.producer is not None:
        if value.producer.op_type not in ("Reshape", "Transpose"):
            return value.producer.op_type == "DequantizeLinear"
        value = value.producer.input(0)
    return False


def _dequantize(name: str, x: Any | Const) -> Op:
    return Op("DequantizeLinear", x, Const(f"{name}_scale"), Const(f"{name}_zero"), bind=name, shared=True)


class IntegerConvolution(Rule):
    """Q(Relu(Conv(DQ(x), DQ(w), DQ(b)))) --> QLinearConv(x, w, b), which saturates where Relu cuts off."""

    name = "integer-convolution"
    convolution = Op(
        "Conv",
        _dequantize("source", Any("x")),
        _dequantize("weights", Const("w")),
        _dequantize("bias", Const("b")),
        bind="conv",
    )
    pattern = Op(
        "QuantizeLinear",
        Either(Op("Relu", convolution, bind="relu"), convolution),
        Const("y_scale"),
        Const("y_zero"),
    )

    def check(self, match: Match) -> str | None:
        scale, zero = match.data("y_scale"), match.data("y_zero")
        if scale.size != 1 or match.data("source_scale").size != 1:
            return "an image has one scale for each channel"
        if match.data("weights_scale").size > 1 and match.node("weights").int("axis", 1) != 0:
            return "the scale of the weights does not go by output channel"
        product = match.data("source_scale") * match.data("weights_scale")
        if match.data("bias_zero").any() or not np.allclose(match.data("bias_scale"), product, SAME_SCALE, 0):
            return "the bias has another scale than the sums"
        if match.has("relu") and (zero != np.iinfo(zero.dtype).min).any():
            return "Relu cuts off more than QLinearConv"
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        source = (match["x"], match["source_scale"], match["source_zero"])
        weights = (match["w"], match["weights_scale"], match["weights_zero"])
        if match["x"].dtype == DType.uint8:
            moved = (_bytes_from_zero(match.data(name), build) for name in ("w", "weights_zero"))
            weights = (next(moved), match["weights_scale"], next(moved))
        operands = (*source, *weights, match["y_scale"], match["y_zero"], match["b"])
        return build.op("QLinearConv", *operands, **match.node("conv").attributes)


def _bytes_from_zero(signed: np.ndarray, build: Builder) -> Value:
    """What is signed, 128 higher as uint8: weights and their zero point alike."""
    lowest = 0 if signed.dtype == np.uint8 else -128
    return build.const((signed.astype(np.int16) - lowest).astype(np.uint8))
