"""Rounding up or down, learned for all the weights of a layer at once.

A weight between two integers, floor + h with h in [0, 1], is moved by the gradient of the layer's squared error, while
a penalty draws h to 0 or 1, the more the longer it goes on:

    h = clip(1.2 sigmoid(v) - 0.1, 0, 1)        penalty = 1 - |2 h - 1|^b,  b falling from 20 to 2

Source: Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization. The error is that of the second
moments (`moments.py`), which hold all samples: gradients are exact, and no step draws samples. Adam (Kingma and Ba
2015) moves v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.passes.rounding.grid import Grid

WIDE, LOW = 1.2, -0.1
"""Of h: so that it reaches 0 and 1."""

STEEPEST, FLATTEST = 20.0, 2.0
FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Of Adam: how long gradients and their squares are remembered."""

UNDECIDED = 0.02
"""A weight on an integer begins so far from it."""


@dataclass(frozen=True)
class Schedule:
    """So many steps of Adam. The penalty, a share of the error of nearest rounding, waits for a share of them."""

    steps: int = 400
    rate: float = 0.05
    penalty: float = 3.0
    wait: float = 0.2


def learned(rows: np.ndarray, hessian: np.ndarray, grid: Grid, schedule: Schedule = Schedule()) -> np.ndarray:
    """Integers (g, m, k) next to `rows` on `grid`, with a small error d H d^T; `hessian` is (g, k, k)."""
    scale, zero = grid.along(grid.scale), grid.along(grid.zero_point)
    start = np.clip(rows / scale + zero, grid.low, grid.high)
    floor = np.minimum(np.floor(start), grid.high - 1)
    v = _inverse(np.clip(start - floor, UNDECIDED, 1 - UNDECIDED)).astype(np.float32)
    narrow = (hessian / _usual_error(hessian, scale)).astype(np.float32)
    steps, base = scale.astype(np.float32), ((floor - zero) * scale - rows).astype(np.float32)
    average, square = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, schedule.steps + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(WIDE * sigmoid + LOW, 0, 1)
        gradient = 2 * ((base + h * steps) @ narrow) * steps
        gradient += _penalty_slope(h, step / schedule.steps, schedule)
        gradient *= np.where((h > 0) & (h < 1), WIDE * sigmoid * (1 - sigmoid), 0)
        average = FIRST * average + (1 - FIRST) * gradient
        square = SECOND * square + (1 - SECOND) * gradient**2
        unbiased = np.sqrt(square / (1 - SECOND**step)) + TINY
        v -= schedule.rate * (average / (1 - FIRST**step)) / unbiased
    return floor + (v >= 0)


def _usual_error(hessian: np.ndarray, scale: np.ndarray) -> float:
    """What rounding a weight to nearest costs on average: a twelfth of a step squared, times the curvature."""
    curvature = np.einsum("gkk->gk", hessian)[:, None, :]
    return float((curvature * scale**2).mean() / 12) or 1.0


def _penalty_slope(h: np.ndarray, done: float, schedule: Schedule) -> np.ndarray | float:
    """The derivative of the penalty, which begins after the wait."""
    if done < schedule.wait:
        return 0.0
    share = (done - schedule.wait) / (1 - schedule.wait)
    power = FLATTEST + 0.5 * (STEEPEST - FLATTEST) * (1 + np.cos(np.pi * share))
    away = 2 * h - 1
    return np.asarray(-2 * schedule.penalty * power * np.sign(away) * np.abs(away) ** (power - 1), np.float32)


def _inverse(h: np.ndarray) -> np.ndarray:
    """The v whose h is given."""
    sigmoid = (h - LOW) / WIDE
    return np.log(sigmoid / (1 - sigmoid))
