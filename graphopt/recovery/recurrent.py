"""LSTM, GRU and RNN of ONNX in JAX, step by step in one scan for each direction.

X is [steps, samples, inputs], W [directions, gates x hidden, inputs], R [directions, gates x hidden, hidden], B
[directions, 2 x gates x hidden]. Gates lie as ONNX has them: input, output, forget, cell of an LSTM, update, reset,
hidden of a GRU. Source: the ONNX operator specifications LSTM-22, GRU-22 and RNN-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from graphopt.ir import Node

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Of one direction; others have no form here."""

PEEPHOLES = 7

Step = Callable[[Node, tuple, Any, Any, Any], tuple]
"""The next states from the states h (and c), what comes from the input with its bias, R and R's bias."""


def recurrence(
    node: Node, x: Any, w: Any, r: Any, bias: Any = None, _: Any = None, *states: Any
) -> list[Any]:
    """Y [steps, directions, samples, hidden], then the last states [directions, samples, hidden]."""
    hidden, directions = r.shape[2], w.shape[0]
    width = GATES[node.op_type] * hidden
    bias = jnp.zeros((directions, 2 * width), x.dtype) if bias is None else bias
    zeros = jnp.zeros((directions, x.shape[1], hidden), x.dtype)
    given = [*states[: STATES[node.op_type]], *(None,) * STATES[node.op_type]][: STATES[node.op_type]]
    first = [zeros if state is None else state for state in given]
    made, last = [], []
    for number in range(directions):
        backward = number == 1 or node.str("direction", "forward") == "reverse"
        ahead = x @ w[number].T + bias[number, :width]
        one = tuple(state[number] for state in first)
        ended, kept = _scanned(node, one, ahead, r[number], bias[number, width:], backward)
        made.append(kept)
        last.append(ended)
    return [jnp.stack(made, 1), *(jnp.stack(column) for column in zip(*last, strict=True))]


def _scanned(node: Node, first: tuple, ahead: Any, r: Any, bias: Any, backward: bool) -> tuple[tuple, Any]:
    def step(states: tuple, gates: Any) -> tuple[tuple, Any]:
        new = STEPS[node.op_type](node, states, gates, r, bias)
        return new, new[0]

    return jax.lax.scan(step, first, ahead, reverse=backward)


def _lstm(node: Node, states: tuple, ahead: Any, r: Any, bias: Any) -> tuple:
    h, c = states
    enter, leave, forget, candidate = jnp.split(ahead + h @ r.T + bias, 4, -1)
    new = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
    return jax.nn.sigmoid(leave) * jnp.tanh(new), new


def _gru(node: Node, states: tuple, ahead: Any, r: Any, bias: Any) -> tuple:
    (h,) = states
    hidden = h.shape[-1]
    gates = ahead[..., : 2 * hidden] + h @ r[: 2 * hidden].T + bias[: 2 * hidden]
    update, reset = jnp.split(jax.nn.sigmoid(gates), 2, -1)
    weights, shift = r[2 * hidden :], bias[2 * hidden :]
    behind = (
        reset * (h @ weights.T + shift)
        if node.int("linear_before_reset")
        else (reset * h) @ weights.T + shift
    )
    candidate = jnp.tanh(ahead[..., 2 * hidden :] + behind)
    return ((1 - update) * candidate + update * h,)


def _rnn(node: Node, states: tuple, ahead: Any, r: Any, bias: Any) -> tuple:
    return (jnp.tanh(ahead + states[0] @ r.T + bias),)


STEPS: Mapping[str, Step] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def why_not(node: Node) -> str:
    """What of a recurrence is not done; empty where all is."""
    if node.op_type not in GATES:
        return ""
    if node.input(4) is not None:
        return "lengths of sequences are not done"
    if node.input(PEEPHOLES) is not None:
        return "peepholes are not done"
    named = node.attributes.get("activations") or ()
    given = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in named)  # type: ignore[union-attr]
    usual = ACTIVATIONS[node.op_type]
    if given not in ((), usual, usual * 2):
        return f"activations {', '.join(given)} are not done"
    if node.int("layout") or "clip" in node.attributes or node.int("input_forget"):
        return "layout 1, clip and input_forget are not done"
    return ""
