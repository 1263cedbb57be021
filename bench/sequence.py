"""Sequence models with random weights, spelt out of primitives as frameworks export them."""

from __future__ import annotations

import math

import numpy as np
import onnx

from bench.network import Network


def bert(layers: int = 6, width: int = 384, tokens: int = 128, heads: int = 12) -> onnx.ModelProto:
    """An encoder on embedded tokens. Devlin et al., "BERT: pre-training of deep bidirectional transformers", 2019."""
    net = Network()
    x = "input"
    for _ in range(layers):
        x = _layernorm(net, net.op("Add", x, _attention(net, x, width, tokens, heads)), width)
        hidden = _gelu(net, _linear(net, x, width, 4 * width))
        x = _layernorm(net, net.op("Add", x, _linear(net, hidden, 4 * width, width)), width)
    return net.model({"input": [1, tokens, width]}, {x: [1, tokens, width]}, "bert")


def _linear(net: Network, x: str, cin: int, cout: int) -> str:
    w = net.weight(net.random.normal(0, 1 / math.sqrt(cin), (cin, cout)))
    return net.op("Add", net.op("MatMul", x, w), net.weight(net.random.normal(0, 0.02, cout)))


def _attention(net: Network, x: str, width: int, tokens: int, heads: int) -> str:
    size = width // heads

    def split(y: str, order: list[int]) -> str:
        return net.op("Transpose", net.op("Reshape", y, net.ints(1, tokens, heads, size)), perm=order)

    q = split(_linear(net, x, width, width), [0, 2, 1, 3])
    k = split(_linear(net, x, width, width), [0, 2, 3, 1])
    v = split(_linear(net, x, width, width), [0, 2, 1, 3])
    scores = net.op("Div", net.op("MatMul", q, k), net.weight(np.array(math.sqrt(size))))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    joined = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(1, tokens, width))
    return _linear(net, joined, width, width)


def _layernorm(net: Network, x: str, width: int) -> str:
    centred = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
    squares = net.op("Pow", centred, net.weight(np.array(2.0)))
    variance = net.op("Add", net.op("ReduceMean", squares, axes=[-1]), net.weight(np.array(1e-12)))
    scaled = net.op("Mul", net.op("Div", centred, net.op("Sqrt", variance)), net.weight(np.ones(width)))
    return net.op("Add", scaled, net.weight(np.zeros(width)))


def _gelu(net: Network, x: str) -> str:
    half = net.op("Mul", x, net.weight(np.array(0.5)))
    erf = net.op("Erf", net.op("Div", x, net.weight(np.array(math.sqrt(2)))))
    return net.op("Mul", half, net.op("Add", erf, net.weight(np.array(1.0))))


def lstm(layers: int = 2, width: int = 256, steps: int = 100) -> onnx.ModelProto:
    """Stacked layers over a sequence, batch 1. Hochreiter and Schmidhuber, "Long short-term memory", 1997."""
    net = Network()
    x = "input"
    for _ in range(layers):
        w, r = (
            net.weight(net.random.normal(0, 1 / math.sqrt(width), (1, 4 * width, width))) for _ in range(2)
        )
        bias = net.weight(net.random.normal(0, 0.1, (1, 8 * width)))
        y = net.op("LSTM", x, w, r, bias, hidden_size=width)
        x = net.op("Squeeze", y, net.ints(1))
    return net.model({"input": [steps, 1, width]}, {x: [steps, 1, width]}, "lstm")
