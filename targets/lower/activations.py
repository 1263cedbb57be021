"""Activation functions on one element, as the ONNX specification writes them."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from graphopt.ir import Node, Value
from graphopt.targets.lower.arithmetic import error_function, like, sigmoid
from graphopt.targets.lower.tensors import Expr, dtype_of
from graphopt.targets.requantize import BYTES
from graphopt.targets.transcendental import coarse_sigmoid, normal_distribution


def _relu(node: Node, x: Expr) -> Expr:
    return tirx.max(like(0, x), x)


def _leaky_relu(node: Node, x: Expr) -> Expr:
    return tirx.Select(x < like(0, x), x * like(node.float("alpha", 0.01), x), x)


def _elu(node: Node, x: Expr) -> Expr:
    negative = like(node.float("alpha", 1.0), x) * (tirx.exp(x) - like(1, x))
    return tirx.Select(x < like(0, x), negative, x)


def _selu(node: Node, x: Expr) -> Expr:
    alpha = like(node.float("alpha", 1.67326319217681884765625), x)
    gamma = like(node.float("gamma", 1.05070102214813232421875), x)
    return gamma * tirx.Select(x > like(0, x), x, alpha * tirx.exp(x) - alpha)


def _celu(node: Node, x: Expr) -> Expr:
    alpha, zero = like(node.float("alpha", 1.0), x), like(0, x)
    return tirx.max(zero, x) + tirx.min(zero, alpha * (tirx.exp(x / alpha) - like(1, x)))


def _thresholded_relu(node: Node, x: Expr) -> Expr:
    return tirx.Select(x > like(node.float("alpha", 1.0), x), x, like(0, x))


def _hard_sigmoid(x: Expr, alpha: float, beta: float) -> Expr:
    return tirx.min(like(1, x), tirx.max(like(0, x), like(alpha, x) * x + like(beta, x)))


def _mish(node: Node, x: Expr) -> Expr:
    """x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); from x = 20 on the factor is 1."""
    e = tirx.exp(tirx.min(like(20, x), x))
    n = e * (e + like(2, x))
    return x * (n / (n + like(2, x)))


def _swish(node: Node, x: Expr) -> Expr:
    alpha = node.float("alpha", 1.0)
    return x * sigmoid(x if alpha == 1.0 else like(alpha, x) * x)


def _gelu(node: Node, x: Expr) -> Expr:
    """x times the share of a normal distribution below x; (1 + tanh(u)) / 2 is sigmoid(2 u)."""
    if node.str("approximate", "none") == "tanh":
        cubic = x * (like(0.044715, x) * (x * x) + like(1, x))
        return x * sigmoid(cubic * like(math.sqrt(8 / math.pi), x))
    if dtype_of(x) == "float32":
        return x * normal_distribution(x)
    return like(0.5, x) * x * (like(1, x) + error_function(x * like(math.sqrt(0.5), x)))


def _sigmoid(node: Node, x: Expr) -> Expr:
    return coarse_sigmoid(x) if dtype_of(x) == "float32" and _ends_in_a_byte(node) else sigmoid(x)


def _ends_in_a_byte(gate: Node) -> bool:
    """It, or a product with it, is quantised to 8 bits, and nothing else reads it."""
    products = [user.output for user in gate.output.users if user.is_op("Mul")]
    multiplied = len(products) == len(gate.output.users) and not gate.output.is_graph_output
    return _is_quantised(gate.output) or multiplied and all(map(_is_quantised, products))


def _is_quantised(value: Value) -> bool:
    """To 8 bits, and in no other way read."""
    return not value.is_graph_output and all(
        user.is_op("QuantizeLinear") and user.inputs[0] is value and user.output.dtype.label in BYTES
        for user in value.users
    )


def _softplus(node: Node, x: Expr) -> Expr:
    """log(1 + e^x), written so that e^x never overflows."""
    zero = like(0, x)
    return tirx.max(zero, x) + tirx.log(like(1, x) + tirx.exp(tirx.min(x, zero - x)))


def _shrink(node: Node, x: Expr) -> Expr:
    limit, bias = like(node.float("lambd", 0.5), x), like(node.float("bias", 0.0), x)
    zero = like(0, x)
    return tirx.Select(x < zero - limit, x + bias, tirx.Select(x > limit, x - bias, zero))


ACTIVATIONS: dict[str, Callable[[Node, Expr], Expr]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": lambda node, x: _hard_sigmoid(x, node.float("alpha", 0.2), node.float("beta", 0.5)),
    "HardSwish": lambda node, x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "LeakyRelu": _leaky_relu,
    "Mish": _mish,
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Softsign": lambda node, x: x / (like(1, x) + tirx.abs(x)),
    "Swish": _swish,
    "ThresholdedRelu": _thresholded_relu,
}
"""`f(node, element)`."""
