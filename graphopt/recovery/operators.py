"""Operators in JAX: `operator(node, *operands)` returns an array, or a list of them for several outputs.

Operands that decide shapes are numpy arrays, as the model holds them. Differentiable wherever ONNX's operator is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphopt.ir import Node
from graphopt.ir.types import DType
from graphopt.recovery import recurrent, windows

Operator = Callable[..., Any]


def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    a, b = (a.T if node.int("transA") else a), (b.T if node.int("transB") else b)
    y = node.float("alpha", 1.0) * (a @ b)
    return y if c is None else y + node.float("beta", 1.0) * c


def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    return jnp.clip(x, low, high)


def _reshape(node: Node, x: Any, *_: Any) -> Any:
    return x.reshape(node.output.static_shape)


def _layer_normalization(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    axes = tuple(range(node.int("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + node.float("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


def _rms_normalization(node: Node, x: Any, scale: Any) -> Any:
    axes = tuple(range(node.int("axis", -1) % x.ndim, x.ndim))
    return x * jax.lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + node.float("epsilon", 1e-5)) * scale


def _batch_normalization(node: Node, x: Any, *parameters: Any) -> Any:
    scale, bias, mean, variance = (p.reshape(1, -1, *(1,) * (x.ndim - 2)) for p in parameters)
    return (x - mean) * jax.lax.rsqrt(variance + node.float("epsilon", 1e-5)) * scale + bias


def _split(node: Node, x: Any, sizes: Any = None) -> Any:
    axis = node.int("axis") % x.ndim
    lengths = [output.static_shape[axis] for output in node.outputs]
    return jnp.split(x, np.cumsum(lengths)[:-1], axis)


def _slice(node: Node, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    picks = [slice(None)] * x.ndim
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis = number if axes is None else int(axes[number])
        step = 1 if steps is None else int(steps[number])
        low = None if step < 0 and end < -x.shape[axis] else end
        picks[axis] = slice(start, low, step)
    return x[tuple(picks)]


def _pad(node: Node, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    before, after = np.split(np.asarray(pads), 2)
    fill = 0 if value is None else value
    return jnp.pad(x, list(zip(before.tolist(), after.tolist(), strict=True)), constant_values=fill)


def _reduction(reduce: Callable) -> Operator:
    def apply(node: Node, x: Any, axes: Any = None) -> Any:
        if axes is None or not np.size(axes):
            if node.int("noop_with_empty_axes"):
                return x
            axes = range(x.ndim)
        return reduce(x, axis=tuple(int(a) for a in axes), keepdims=bool(node.int("keepdims", 1)))

    return apply


def _gelu(node: Node, x: Any) -> Any:
    return jax.nn.gelu(x, approximate=node.str("approximate", "none") == "tanh")


def _gather(node: Node, data: Any, indices: Any) -> Any:
    return jnp.take(data, indices, axis=node.int("axis"))


def _hard_sigmoid(node: Node, x: Any) -> Any:
    return jnp.clip(node.float("alpha", 0.2) * x + node.float("beta", 0.5), 0, 1)


def _unary(function: Callable) -> Operator:
    return lambda node, x: function(x)


def _binary(function: Callable) -> Operator:
    return lambda node, *operands: _folded(function, operands)


def _folded(function: Callable, operands: tuple) -> Any:
    result = operands[0]
    for operand in operands[1:]:
        result = function(result, operand)
    return result


OPERATORS: Mapping[str, Operator] = {
    "Abs": _unary(jnp.abs),
    "Add": _binary(jnp.add),
    "AveragePool": windows.average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": lambda node, x: x.astype(DType.of(node.int("to")).numpy),
    "Clip": _clip,
    "Concat": lambda node, *operands: jnp.concatenate(operands, node.int("axis")),
    "Conv": windows.conv,
    "Div": _binary(jnp.divide),
    "Elu": lambda node, x: jax.nn.elu(x, node.float("alpha", 1.0)),
    "Erf": _unary(jax.scipy.special.erf),
    "Exp": _unary(jnp.exp),
    "Flatten": _reshape,
    "GRU": recurrent.recurrence,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": windows.over_pixels(jnp.mean),
    "GlobalMaxPool": windows.over_pixels(jnp.max),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, x: x * jnp.clip(x / 6 + 0.5, 0, 1),
    "Identity": _unary(lambda x: x),
    "LSTM": recurrent.recurrence,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda node, x: jax.nn.leaky_relu(x, node.float("alpha", 0.01)),
    "Log": _unary(jnp.log),
    "MatMul": _binary(jnp.matmul),
    "Max": _binary(jnp.maximum),
    "MaxPool": windows.max_pool,
    "Min": _binary(jnp.minimum),
    "Mul": _binary(jnp.multiply),
    "Neg": _unary(jnp.negative),
    "Pad": _pad,
    "Pow": _binary(jnp.power),
    "RMSNormalization": _rms_normalization,
    "RNN": recurrent.recurrence,
    "Reciprocal": _unary(lambda x: 1 / x),
    "ReduceMax": _reduction(jnp.max),
    "ReduceMean": _reduction(jnp.mean),
    "ReduceSum": _reduction(jnp.sum),
    "Relu": _unary(jax.nn.relu),
    "Reshape": _reshape,
    "Sigmoid": _unary(jax.nn.sigmoid),
    "Slice": _slice,
    "Softmax": lambda node, x: jax.nn.softmax(x, node.int("axis", -1)),
    "Softplus": _unary(jax.nn.softplus),
    "Split": _split,
    "Sqrt": _unary(jnp.sqrt),
    "Squeeze": _reshape,
    "Sub": _binary(jnp.subtract),
    "Swish": lambda node, x: x * jax.nn.sigmoid(node.float("alpha", 1.0) * x),
    "Tanh": _unary(jnp.tanh),
    "Transpose": lambda node, x: jnp.transpose(x, node.ints("perm")),
    "Unsqueeze": _reshape,
    "Where": lambda node, condition, a, b: jnp.where(condition, a, b),
}


SEVERAL = ("Split", *recurrent.GATES)
"""Operators whose further outputs are made."""


def why_not(node: Node) -> str:
    """Why a node has no form in JAX here; empty where it has."""
    if node.domain or node.op_type not in OPERATORS:
        return f"{node.key} has no form that can be learned"
    if (
        len([output for output in node.outputs if output.uses or output.is_graph_output]) > 1
        and node.op_type not in SEVERAL
    ):
        return "more than its first output is used"
    if any(not output.is_static for output in node.outputs):
        return "its shape is not fixed"
    return windows.why_not(node) or recurrent.why_not(node)
