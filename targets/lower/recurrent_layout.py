"""How recurrent kernels see their operands: sizes, and weights in the order that the loops walk them.

A *tile* is `lanes` neighbouring hidden units, the lanes of one vector (or of two, side by side). ONNX gives the
weights of a gate row by row, one row a hidden unit; a kernel wants the hidden units in lanes:

    W [directions, gates * hidden, inputs]  -->  [directions, tiles, gates, inputs, lanes]
    R [directions, gates * hidden, hidden]  -->  [directions, tiles, hidden, gates, lanes]

The last tile is filled up with zeros. Constant weights are packed at compile time, others by the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.ir import Node

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}

DEFAULT_LANES = 16
DEFAULT_ACCUMULATORS = 6


@dataclass(frozen=True)
class Sizes:
    """The extents of one recurrent operator.

    `accumulators` is the number of tiles that a kernel may hold in registers at once.
    """

    directions: int
    steps: int
    batch: int
    inputs: int
    hidden: int
    gates: int
    lanes: int
    accumulators: int
    batch_first: bool

    @property
    def tiles(self) -> int:
        return -(-self.hidden // self.lanes)

    @property
    def padded(self) -> int:
        """Hidden units in whole tiles."""
        return self.tiles * self.lanes

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """[directions, batch, padded]"""
        return (self.directions, self.batch, self.padded)

    @property
    def step_macs(self) -> int:
        """Multiplications of one step of one direction."""
        return self.batch * self.gates * self.padded * self.hidden


def sizes_of(node: Node) -> Sizes:
    """The sizes of LSTM, GRU or RNN, standard or packed."""
    x, r = node.input(0), node.input(2)
    assert x is not None and r is not None
    batch_first = bool(node.int("layout"))
    first, second, inputs = x.static_shape
    steps, batch = (second, first) if batch_first else (first, second)
    return Sizes(
        directions=r.static_shape[0],
        steps=steps,
        batch=batch,
        inputs=inputs,
        hidden=r.static_shape[2],
        gates=GATES[node.op_type],
        lanes=node.int("lanes", DEFAULT_LANES),
        accumulators=node.int("accumulators", DEFAULT_ACCUMULATORS),
        batch_first=batch_first,
    )


def pack_input_weights(w: np.ndarray, sizes: Sizes) -> np.ndarray:
    """[directions, gates * hidden, inputs] --> [directions, tiles, gates, inputs, lanes]"""
    return np.ascontiguousarray(_by_tile(w, sizes).transpose(0, 2, 1, 4, 3))


def pack_recurrent_weights(r: np.ndarray, sizes: Sizes) -> np.ndarray:
    """[directions, gates * hidden, hidden] --> [directions, tiles, hidden, gates, lanes]"""
    return np.ascontiguousarray(_by_tile(r, sizes).transpose(0, 2, 4, 1, 3))


def _by_tile(weights: np.ndarray, sizes: Sizes) -> np.ndarray:
    """[directions, gates, tiles, lanes, columns], the last tile filled up."""
    columns = weights.shape[2]
    gated = weights.reshape(sizes.directions, sizes.gates, sizes.hidden, columns)
    filled = np.pad(gated, ((0, 0), (0, 0), (0, sizes.padded - sizes.hidden), (0, 0)))
    return filled.reshape(sizes.directions, sizes.gates, sizes.tiles, sizes.lanes, columns)
