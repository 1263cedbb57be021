"""Rounding up or down, learned for a layer and the activation behind it.

A weight between two integers, floor + h with h in [0, 1], is moved by gradients of the squared error of the layer's
*activated* results; a penalty draws h to 0 or 1, the more the longer it goes on. What an activation cuts off costs
nothing, which the second-order error cannot know.

    h = clip(1.2 sigmoid(v) - 0.1, 0, 1)        penalty = 1 - |2 h - 1|^b,  b falling from 20 to 2

Source: Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization. Adam (Kingma and Ba 2015) on v.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.passes.rounding.grid import Grid

WIDE, LOW = 1.2, -0.1
STEEPEST, FLATTEST = 20.0, 2.0
FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Of Adam: how long gradients and their squares are remembered."""

Activation = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""An activation of an array, and its derivative there."""


@dataclass(frozen=True)
class Schedule:
    """So many steps of Adam, on so many rows of operands each. The penalty waits for a share of them."""

    steps: int = 1000
    rows: int = 1024
    rate: float = 0.02
    penalty: float = 0.01
    wait: float = 0.2
    seed: int = 0


def learned(
    start: np.ndarray,
    grid: Grid,
    bias: np.ndarray,
    operands: np.ndarray,
    wanted: np.ndarray,
    activation: Activation,
    schedule: Schedule = Schedule(),
) -> np.ndarray:
    """Integers (g, m, k) next to `start`, numbers in units of the grid, zero point included.

    Results are activation(operands (g, p, k) w + bias (g, m)); `wanted` (g, p, m) are those after the activation.
    """
    random = np.random.default_rng(schedule.seed)
    floor = np.clip(np.floor(start), grid.low, grid.high - 1).astype(np.float32)
    v = _inverse(np.clip(start - floor, 0.02, 0.98)).astype(np.float32)
    scale, zero = (grid.along(n).astype(np.float32) for n in (grid.scale, grid.zero_point))
    power = float(np.square(wanted, dtype=np.float64).mean()) or 1.0
    average, square = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, schedule.steps + 1):
        chosen = random.integers(0, operands.shape[1], schedule.rows)
        x, y = operands[:, chosen], wanted[:, chosen]
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(WIDE * sigmoid + LOW, 0, 1)
        weights = (floor + h - zero) * scale
        made, slope = activation(x @ weights.transpose(0, 2, 1) + bias[:, None, :])
        error = (made - y) * slope * np.float32(2 / (power * schedule.rows))
        gradient = (error.transpose(0, 2, 1) @ x) * scale
        gradient += _penalty_slope(h, step / schedule.steps, schedule) / h[0, 0].size
        inside = (h > 0) & (h < 1)
        gradient *= np.where(inside, WIDE * sigmoid * (1 - sigmoid), 0)
        average = FIRST * average + (1 - FIRST) * gradient
        square = SECOND * square + (1 - SECOND) * gradient**2
        unbiased = np.sqrt(square / (1 - SECOND**step)) + TINY
        v -= schedule.rate * average / (1 - FIRST**step) / unbiased
    return floor + (v >= 0)


def _penalty_slope(h: np.ndarray, done: float, schedule: Schedule) -> np.ndarray | float:
    """The derivative of the penalty, which begins after the wait."""
    if done < schedule.wait:
        return 0.0
    share = (done - schedule.wait) / (1 - schedule.wait)
    power = FLATTEST + 0.5 * (STEEPEST - FLATTEST) * (1 + np.cos(np.pi * share))
    away = 2 * h - 1
    return schedule.penalty * -2 * power * np.sign(away) * np.abs(away) ** (power - 1)


def _inverse(h: np.ndarray) -> np.ndarray:
    """The v whose h is given."""
    sigmoid = (h - LOW) / WIDE
    return np.log(sigmoid / (1 - sigmoid))


def identity(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, np.ones_like(x)


def relu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(x, 0), (x > 0).astype(x.dtype)


def clip(low: float, high: float) -> Activation:
    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(x, low, high), ((x > low) & (x < high)).astype(x.dtype)

    return function


def hard_swish(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gate = np.clip(x / 6 + np.float32(0.5), 0, 1)
    return x * gate, gate + np.where((x > -3) & (x < 3), x / 6, 0)
