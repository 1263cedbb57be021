"""LSTM, GRU and RNN in numpy, one sequence and one step at a time, written from ONNX's equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Array = np.ndarray

DEFAULTS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}

FUNCTIONS: dict[str, tuple[Callable[..., Array], dict[str, float]]] = {
    "Affine": (lambda x, alpha, beta: alpha * x + beta, {"alpha": 1.0, "beta": 0.0}),
    "Elu": (lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x), {"alpha": 1.0}),
    "HardSigmoid": (lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": (lambda x, alpha: np.where(x < 0, alpha * x, x), {"alpha": 0.01}),
    "Relu": (lambda x: np.maximum(x, 0), {}),
    "ScaledTanh": (lambda x, alpha, beta: alpha * np.tanh(beta * x), {"alpha": 1.0, "beta": 1.0}),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), {}),
    "Softplus": (lambda x: np.log1p(np.exp(x)), {}),
    "Softsign": (lambda x: x / (1 + np.abs(x)), {}),
    "Tanh": (np.tanh, {}),
    "ThresholdedRelu": (lambda x, alpha: np.where(x > alpha, x, 0), {"alpha": 1.0}),
}


def evaluate(op_type: str, operands: Sequence[Array | None], attributes: dict) -> list[Array]:
    """Y, Y_h and, of LSTM, Y_c, in float64, rounded to the type of X at the end."""
    x, w, r, b, lengths, h0, c0, p = [*operands, *[None] * 8][:8]
    assert x is not None and w is not None and r is not None
    batch_first = attributes.get("layout", 0)
    inputs = x.swapaxes(0, 1) if batch_first else x
    steps, batch, _ = inputs.shape
    directions, _, hidden = r.shape
    biases = np.zeros((directions, 2 * w.shape[1])) if b is None else b
    peepholes = np.zeros((directions, 3 * hidden)) if p is None else p
    functions = list(_functions(op_type, directions, attributes))
    y = np.zeros((steps, directions, batch, hidden))
    last = np.zeros((2, directions, batch, hidden))
    for d in range(directions):
        backward = attributes.get("direction", "forward") == "reverse" or d == 1
        cell = _Cell(op_type, attributes, functions[d], w[d], r[d], biases[d], peepholes[d])
        for n in range(batch):
            length = steps if lengths is None else int(lengths[n])
            first = (n, d) if batch_first else (d, n)
            h, c = (np.zeros(hidden) if s is None else s[first].astype(float) for s in (h0, c0))
            for t in reversed(range(length)) if backward else range(length):
                h, c = cell.step(inputs[t, n].astype(float), h, c)
                y[t, d, n] = h
            if length:
                last[:, d, n] = h, c
    results = [y, *last] if op_type == "LSTM" else [y, last[0]]
    if batch_first:
        results = [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in results[1:])]
    return [np.ascontiguousarray(result).astype(x.dtype) for result in results]


class _Cell:
    def __init__(
        self, op_type: str, attributes: dict, functions: list, w: Array, r: Array, b: Array, p: Array
    ) -> None:
        hidden = r.shape[1]
        gates = r.shape[0] // hidden
        self.w, self.r = (m.reshape(gates, hidden, -1).astype(float) for m in (w, r))
        self.wb, self.rb = b.reshape(2, gates, hidden).astype(float)
        self.p = p.reshape(3, hidden).astype(float)
        self.clip = attributes.get("clip", np.inf)
        self.attributes, self.functions = attributes, functions
        self.step = {"GRU": self._gru, "LSTM": self._lstm, "RNN": self._rnn}[op_type]

    def _bounded(self, x: Array) -> Array:
        return np.clip(x, -self.clip, self.clip)

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g, out = self.functions
        i, o, forget, cell = self.w @ x + self.r @ h + self.wb + self.rb
        i = f(self._bounded(i + self.p[0] * c))
        forget = 1 - i if self.attributes.get("input_forget") else f(self._bounded(forget + self.p[2] * c))
        c = forget * c + i * g(self._bounded(cell))
        return f(self._bounded(o + self.p[1] * c)) * out(c), c

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g = self.functions
        of_x, of_h = self.w @ x + self.wb, self.r @ h + self.rb
        z, reset = (f(self._bounded(of_x[k] + of_h[k])) for k in range(2))
        if self.attributes.get("linear_before_reset"):
            n = of_x[2] + reset * of_h[2]
        else:
            n = of_x[2] + self.r[2] @ (reset * h) + self.rb[2]
        return (1 - z) * g(self._bounded(n)) + z * h, c

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return self.functions[0](self._bounded((self.w @ x + self.r @ h + self.wb + self.rb)[0])), c


def _functions(op_type: str, directions: int, attributes: dict) -> Iterator[list]:
    """The activations of each direction; alphas and betas are consumed by those that have them."""
    names = attributes.get("activations", DEFAULTS[op_type] * directions)
    given = {key: iter(attributes.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    chosen = []
    for name in names:
        function, defaults = FUNCTIONS[name]
        values = {key: next(given[key], default) for key, default in defaults.items()}
        chosen.append(lambda x, function=function, values=values: function(x, **values))
    for d in range(directions):
        yield chosen[d * len(DEFAULTS[op_type]) : (d + 1) * len(DEFAULTS[op_type])]
