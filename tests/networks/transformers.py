"""Transformer layers as PyTorch exports them, everything spelt out of primitives."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from tests.networks.net import Net


def _layer_norm(net: Net, x: str, width: int, spelling: str) -> str:
    """Ba, Kiros and Hinton, "Layer normalization", 2016."""
    mean = net.op("ReduceMean", x, axes=[-1])
    centred = net.op("Sub", x, mean)
    square = (
        net.op("Mul", centred, centred) if spelling == "reciprocal" else net.op("Pow", centred, net.const(2))
    )
    variance = net.op("Add", net.op("ReduceMean", square, axes=[-1]), net.const(1e-5))
    if spelling == "power":
        y = net.op("Div", centred, net.op("Pow", variance, net.const(0.5)))
    elif spelling == "reciprocal":
        y = net.op("Mul", centred, net.op("Reciprocal", net.op("Sqrt", variance)))
    else:
        y = net.op("Div", centred, net.op("Sqrt", variance))
    return net.op("Add", net.op("Mul", y, net.vector(width, 1)), net.vector(width))


def _heads(net: Net, x: str, tokens: int, heads: int, width: int, *, keys: bool = False) -> str:
    """(1, tokens, heads * width) to (1, heads, tokens, width), or transposed for the keys."""
    split = net.op("Reshape", x, net.ints(1, tokens, heads, width))
    turned = net.op("Transpose", split, perm=[0, 2, 1, 3])
    return net.op("Transpose", turned, perm=[0, 1, 3, 2]) if keys else turned


def _merged(net: Net, x: str, tokens: int, width: int) -> str:
    return net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3]), net.ints(1, tokens, width))


def _gelu(net: Net, x: str, spelling: str) -> str:
    if spelling == "tanh":
        cube = net.op("Mul", net.op("Pow", x, net.const(3)), net.const(0.044715))
        gate = net.op("Tanh", net.op("Mul", net.op("Add", x, cube), net.const(math.sqrt(2 / math.pi))))
    else:
        gate = net.op("Erf", net.op("Div", x, net.const(math.sqrt(2))))
    gate = net.op("Add", gate, net.const(1))
    if spelling == "erf":
        return net.op("Mul", net.op("Mul", x, gate), net.const(0.5))
    return net.op("Mul", net.op("Mul", net.const(0.5), x), gate)


def bert(tokens: int = 6, heads: int = 2, width: int = 4, seed: int = 0) -> onnx.ModelProto:
    """An encoder with a padding mask, after normalisation. Devlin et al., "BERT", 2019."""
    net = Net("bert", seed)
    hidden = heads * width
    ids = net.input("input_ids", 1, tokens, dtype=TensorProto.INT64)
    mask = net.input("attention_mask", 1, tokens, dtype=TensorProto.INT32)
    x = net.op("Add", net.op("Gather", net.weight(32, hidden), ids, axis=0), net.weight(1, tokens, hidden))
    x = _layer_norm(net, x, hidden, "quotient")
    mask = net.op("Cast", net.op("Cast", mask, to=TensorProto.INT64), to=TensorProto.FLOAT)
    mask = net.op("Unsqueeze", net.op("Unsqueeze", mask, net.ints(1)), net.ints(2))
    mask = net.op("Mul", net.op("Sub", net.const(1), mask), net.const(-10000))
    for norm, gelu in (("quotient", "erf"), ("power", "half first"), ("reciprocal", "tanh")):
        q, k, v = (net.dense(x, hidden, hidden) for _ in range(3))
        q, v = (_heads(net, t, tokens, heads, width) for t in (q, v))
        k = _heads(net, k, tokens, heads, width, keys=True)
        scores = net.op("Add", net.op("Div", net.op("MatMul", q, k), net.const(math.sqrt(width))), mask)
        y = _merged(net, net.op("MatMul", net.op("Softmax", scores, axis=-1), v), tokens, hidden)
        x = _layer_norm(net, net.op("Add", net.dense(y, hidden, hidden), x), hidden, norm)
        y = _gelu(net, net.dense(x, hidden, 2 * hidden), gelu)
        x = _layer_norm(net, net.op("Add", net.dense(y, 2 * hidden, hidden), x), hidden, norm)
    return net.model(x, 1, tokens, hidden)


def gpt(tokens: int = 6, heads: int = 2, width: int = 4, seed: int = 0) -> onnx.ModelProto:
    """A decoder with a causal mask, normalisation first, q and k scaled. Radford et al., "GPT-2", 2019."""
    net = Net("gpt", seed)
    hidden = heads * width
    table = net.weight(32, hidden)
    x = net.op("Gather", table, net.input("input_ids", 1, tokens, dtype=TensorProto.INT64), axis=0)
    causal = np.tril(np.ones((1, 1, tokens, tokens)))
    root = net.const(width**-0.25)
    for chooses in (True, False):
        y = _layer_norm(net, x, hidden, "quotient")
        parts = net.ops("Split", net.dense(y, hidden, 3 * hidden), net.ints(*[hidden] * 3), outputs=3, axis=2)
        q = net.op("Mul", _heads(net, parts[0], tokens, heads, width), root)
        k = net.op("Mul", _heads(net, parts[1], tokens, heads, width, keys=True), root)
        scores = net.op("MatMul", q, k)
        if chooses:
            scores = net.op("Where", net.const(causal, np.bool_), scores, net.const(-10000))
        else:
            scores = net.op("Add", scores, net.const((1 - causal) * -10000))
        y = net.op("MatMul", net.op("Softmax", scores, axis=-1), _heads(net, parts[2], tokens, heads, width))
        x = net.op("Add", x, net.dense(_merged(net, y, tokens, hidden), hidden, hidden))
        y = _gelu(net, net.dense(_layer_norm(net, x, hidden, "quotient"), hidden, 2 * hidden), "tanh")
        x = net.op("Add", x, net.dense(y, 2 * hidden, hidden))
    x = _layer_norm(net, x, hidden, "quotient")
    return net.model(net.op("MatMul", x, net.op("Transpose", table, perm=[1, 0])), 1, tokens, 32)


def llama(tokens: int = 6, heads: int = 2, width: int = 4, seed: int = 0) -> onnx.ModelProto:
    """RMS normalisation, rotary positions, a gated layer. Touvron et al., "LLaMA", 2023."""
    net = Net("llama", seed)
    hidden = heads * width
    x = net.op(
        "Gather", net.weight(32, hidden), net.input("input_ids", 1, tokens, dtype=TensorProto.INT64), axis=0
    )
    angles = np.outer(np.arange(tokens), 10000.0 ** (-np.arange(0, width, 2) / width))
    cosines, sines = (net.const(np.tile(f(angles), 2)) for f in (np.cos, np.sin))
    causal = net.const(np.triu(np.full((1, 1, tokens, tokens), -10000.0), 1))
    for _ in range(2):
        y = _rms_norm(net, x, hidden)
        q, k, v = (net.op("MatMul", y, net.matrix(hidden, hidden)) for _ in range(3))
        q, k, v = (_heads(net, t, tokens, heads, width) for t in (q, k, v))
        q, k = (_rotated(net, t, width, cosines, sines) for t in (q, k))
        scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = net.op("Add", net.op("Mul", scores, net.const(width**-0.5)), causal)
        y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
        x = net.op("Add", x, net.op("MatMul", _merged(net, y, tokens, hidden), net.matrix(hidden, hidden)))
        y = _rms_norm(net, x, hidden)
        gate, up = (net.op("MatMul", y, net.matrix(hidden, 2 * hidden)) for _ in range(2))
        gate = net.op("Mul", gate, net.op("Sigmoid", gate))
        y = net.op("MatMul", net.op("Mul", gate, up), net.matrix(2 * hidden, hidden))
        x = net.op("Add", x, y)
    return net.model(_rms_norm(net, x, hidden), 1, tokens, hidden)


def _rms_norm(net: Net, x: str, width: int) -> str:
    """Zhang and Sennrich, "Root mean square layer normalization", 2019."""
    mean = net.op("ReduceMean", net.op("Pow", x, net.const(2)), axes=[-1])
    root = net.op("Sqrt", net.op("Add", mean, net.const(1e-6)))
    return net.op("Mul", net.vector(width, 1), net.op("Mul", x, net.op("Reciprocal", root)))


def _rotated(net: Net, x: str, width: int, cosines: str, sines: str) -> str:
    """Su et al., "RoFormer", 2021: pairs (x, y) turn by the angles, written as x cos + (-y, x) sin."""
    first = net.op("Slice", x, net.ints(0), net.ints(width // 2), net.ints(3))
    second = net.op("Slice", x, net.ints(width // 2), net.ints(2**62), net.ints(3))
    turned = net.op("Concat", net.op("Neg", second), first, axis=3)
    return net.op("Add", net.op("Mul", x, cosines), net.op("Mul", turned, sines))
