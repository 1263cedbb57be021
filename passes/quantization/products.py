"""Quantised products: their weights, and biases in the units of their sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.algebra import output_channels
from graphopt.passes.quantization.insert import Activations, before
from graphopt.passes.quantization.parameters import Parameters, widened_for_bias
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.passes.quantization.weights import in_fewer_bits, weight_parameters


@dataclass(frozen=True)
class Bias:
    """Input `index` of `reader` is the bias, constant, one number for each channel."""

    reader: Node
    index: int
    value: Value

    @property
    def data(self) -> np.ndarray:
        assert self.value.constant is not None
        return self.value.constant


def quantise_product(activations: Activations, node: Node, scheme: Scheme) -> None:
    """Let `node` read quantised operands. Raises UsageError."""
    x, weights = node.inputs[0], node.inputs[1]
    assert x is not None and weights is not None
    dtype = scheme.activation_type
    source = None if dtype is None or x.is_constant else activations.parameters(x, dtype)
    bias = None if source is None or source.bits > 8 else bias_of(node, activations)
    if dtype is not None:
        activations.quantise_operands(node, dtype)
    if weights.constant is None:
        return
    if source is None or bias is None or scheme.weights not in STORED:
        made = in_fewer_bits(before(node), node, weights, scheme)
        activations.originals[made] = weights.constant
        node.set_input(1, made)
        return
    parameters = weight_parameters(node, weights, scheme)
    if not parameters.group:
        parameters = widened_for_bias(parameters, source.scale, bias.data)
        _quantise_bias(
            activations, bias, np.asarray(source.scale * parameters.scale), parameters.axis is not None
        )
    node.set_input(1, activations.constant(before(node), weights.constant, parameters, weights.name))


def bias_of(node: Node, activations: Activations) -> Bias | None:
    """The bias of a product, which an Add behind a MatMul may hold."""
    reader, index = node, 2
    if node.op_type == "MatMul":
        reader = node.output.users[0] if len(node.output.uses) == 1 else node
        if not reader.is_op("Add") or reader not in activations.placement.precision:
            return None
        index = 1 - node.output.uses[0].index
    elif node.op_type == "Gemm" and (node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1):
        return None
    value, channels = reader.input(index), output_channels(node)
    if value is None or value.constant is None or value.constant.shape != (channels,):
        return None
    return Bias(reader, index, value) if np.isfinite(value.constant).all() else None


def _quantise_bias(activations: Activations, bias: Bias, scale: np.ndarray, is_by_channel: bool) -> None:
    """Integers in units of the product's sums."""
    axis = 0 if is_by_channel else None
    zero = np.zeros(scale.shape, np.int32)
    parameters = Parameters(scale, zero, DType.int32, DType.int32.bits, axis)
    made = activations.constant(before(bias.reader), bias.data, parameters, bias.value.name)
    bias.reader.set_input(bias.index, made)
