"""How the weights of one layer are rounded.

A method is given the rows that are wanted, the second moments of the operands, the layer's grid, and which weights are
held at zero, where rows are zero; it returns integers and a grid. All take the error d H d^T for the measure
(`moments.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.passes.quantization.narrow_parameters import FEW
from graphopt.passes.rounding.beam import WIDEST, round_by_beam, width_for
from graphopt.passes.rounding.descent import descended, rescaled
from graphopt.passes.rounding.grid import Grid
from graphopt.passes.rounding.learned import Schedule, learned
from graphopt.passes.rounding.moments import squared_error
from graphopt.passes.rounding.second_order import inverse_factor, round_in_order

SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
"""Shares of the range of a row that are tried. Few bits gain from clipping, and from better scales; 8 do not."""

LOOKED_AT = SHARES[::4]
"""Shares from which it is told, by rounding to nearest, whether zero points are worth their bits."""

PRICE = 0.5
"""Of those bits: fitting makes more of zero points than rounding to nearest does. At the full price MobileNetV2 lost a
decibel for a seventieth of a bit.
"""


@dataclass(frozen=True)
class SecondOrder:
    """Rounding in order with errors handed on, for each of several ranges; then descent and scales of least error.
    Small layers that hold no zeros are searched more widely at the end, with as many as `widest` roundings of a row
    (`beam.py`).

    With `zero_points` the grid of weights of few bits need not be symmetric, where that is worth the bits.
    """

    zero_points: bool = False
    rounds: int = 2
    widest: int = WIDEST

    def __call__(
        self,
        rows: np.ndarray,
        hessian: np.ndarray,
        grid: Grid,
        fixed_scale: bool,
        held: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Grid]:
        factor = inverse_factor(hessian)
        grids = [grid] if fixed_scale else _grids(rows, hessian, grid, self.zero_points)
        best = grids[0]
        integers = round_in_order(rows, factor, best, held)
        error = squared_error(best.values(integers) - rows, hessian)
        for tried in grids[1:]:
            made = round_in_order(rows, factor, tried, held)
            its_error = squared_error(tried.values(made) - rows, hessian)
            better = its_error < error
            best, error = best.where(better, tried), np.minimum(error, its_error)
            integers = np.where(better[..., None], made, integers)
        for _ in range(0 if fixed_scale or grid.bits >= FEW else self.rounds):
            integers = descended(integers, rows, hessian, best, held=held)
            best = rescaled(integers, rows, hessian, best)
        integers = descended(integers, rows, hessian, best, held=held)
        width = min(self.widest, width_for(rows)) if held is None else 1
        return _better_by_beam(integers, rows, hessian, factor, best, width), best


@dataclass(frozen=True)
class Learned:
    """Rounding up or down by gradients, on the range of least error; nearest where that happens to be better."""

    zero_points: bool = False
    schedule: Schedule = Schedule()

    def __call__(
        self,
        rows: np.ndarray,
        hessian: np.ndarray,
        grid: Grid,
        fixed_scale: bool,
        held: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Grid]:
        if not fixed_scale:
            grid, _ = _least_error(rows, hessian, _grids(rows, hessian, grid, self.zero_points))
        nearest, made = grid.nearest(rows), learned(rows, hessian, grid, self.schedule)
        if held is not None:
            made = np.where(held, grid.along(grid.zero_point), made)
        errors = [squared_error(grid.values(integers) - rows, hessian) for integers in (nearest, made)]
        return np.where((errors[1] < errors[0])[..., None], made, nearest), grid


@dataclass(frozen=True)
class Nearest:
    """Rounding to nearest, on the grid that is there."""

    def __call__(
        self,
        rows: np.ndarray,
        hessian: np.ndarray,
        grid: Grid,
        fixed_scale: bool,
        held: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Grid]:
        return grid.nearest(rows), grid


Method = Learned | Nearest | SecondOrder


def _better_by_beam(
    integers: np.ndarray, rows: np.ndarray, hessian: np.ndarray, factor: np.ndarray, grid: Grid, width: int
) -> np.ndarray:
    """`integers`, or row by row what a wider search finds, where `width` allows one."""
    if width <= 1:
        return integers
    made = descended(round_by_beam(rows, factor, grid, width), rows, hessian, grid)
    now, then = (squared_error(grid.values(found) - rows, hessian) for found in (integers, made))
    return np.where((then < now)[..., None], made, integers)


def _grids(rows: np.ndarray, hessian: np.ndarray, grid: Grid, zero_points: bool) -> list[Grid]:
    """Grids of several ranges where bits are few."""
    if grid.bits >= FEW:
        return [grid.spanning(rows, 1.0, symmetric=True)]
    symmetric = not (zero_points and _are_worth_their_bits(rows, hessian, grid))
    return [grid.spanning(rows, share, symmetric=symmetric) for share in SHARES]


def _are_worth_their_bits(rows: np.ndarray, hessian: np.ndarray, grid: Grid) -> bool:
    """Whether zero points of all rows lessen the error more than half as many bits in the weights would.

    A bit more for every weight halves their steps: a quarter is left of the squared error.
    """
    free, symmetric = (
        _least_error(rows, hessian, [grid.spanning(rows, share, symmetric=kind) for share in LOOKED_AT])[1]
        for kind in (False, True)
    )
    bits_a_weight = grid.bits * grid.scale.shape[-1] / rows.shape[-1]
    return bool(free.sum() < symmetric.sum() * 4.0 ** -(PRICE * bits_a_weight))


def _least_error(rows: np.ndarray, hessian: np.ndarray, grids: list[Grid]) -> tuple[Grid, np.ndarray]:
    """Row by row the grid on which rounding to nearest loses least, and what it loses."""
    best, least = grids[0], np.full(rows.shape[:2], np.inf)
    for grid in grids:
        error = squared_error(grid.values(grid.nearest(rows)) - rows, hessian)
        best, least = best.where(error < least, grid), np.minimum(error, least)
    return best, least
