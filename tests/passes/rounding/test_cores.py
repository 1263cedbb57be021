"""Rounding on arrays: against brute force, and against the errors that it must not make larger."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphopt.passes.rounding.beam import WIDEST, round_by_beam, width_for
from graphopt.passes.rounding.descent import descended, rescaled
from graphopt.passes.rounding.grid import Grid
from graphopt.passes.rounding.learned import learned
from graphopt.passes.rounding.methods import Learned, Nearest, SecondOrder
from graphopt.passes.rounding.moments import Moments, damped, mean_squared_error, refitted, squared_error
from graphopt.passes.rounding.second_order import BLOCK, inverse_factor, round_in_order

ROUNDING = 1e-5
"""Relative: moments are sums of a thousand float32 products."""


def problem(seed: int, groups: int, rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of weights, and the second moments of operands that hang together."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(groups, size, size))
    samples = random.normal(size=(groups, 4 * size, size)) @ mix
    return random.normal(size=(groups, rows, size)), damped(samples.transpose(0, 2, 1) @ samples, 1e-3)


def grid_of(rows: np.ndarray, bits: int, group: int = 0, *, symmetric: bool = True) -> Grid:
    size = rows.shape[-1]
    group_of = np.arange(size) // (group or size)
    empty = np.ones((*rows.shape[:2], group_of[-1] + 1))
    high = (1 << (bits - 1)) - 1
    return Grid(empty, 0 * empty, -high - 1, high, group_of).spanning(rows, 1.0, symmetric=symmetric)


def error(integers: np.ndarray, rows: np.ndarray, hessian: np.ndarray, grid: Grid) -> np.ndarray:
    return squared_error(grid.values(integers) - rows, hessian)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_grid_spans_its_rows(symmetric: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(2, 3, 7)) + 0.7
    grid = grid_of(rows, 4, group=3, symmetric=symmetric)
    assert grid.scale.shape == (2, 3, 3)
    assert np.array_equal(grid.scale, grid.scale.astype(np.float32))
    away = np.abs(grid.values(grid.nearest(rows)) - rows)
    # A zero point is rounded, which may put the ends half a step outside.
    assert (away <= grid.along(grid.scale) * (0.5 if symmetric else 1.0) * (1 + 1e-6)).all()


def test_zeros_have_a_grid() -> None:
    grid = grid_of(np.zeros((1, 2, 5)), 4)
    assert (grid.scale == 1).all()
    assert not grid.values(grid.nearest(np.zeros((1, 2, 5)))).any()


@pytest.mark.parametrize("size", [9, 2 * BLOCK + 3])
def test_the_inverse_is_factored(size: int) -> None:
    _, hessian = problem(1, 3, 1, size)
    factor = inverse_factor(hessian)
    assert np.array_equal(factor, np.triu(factor))
    assert np.allclose(factor.transpose(0, 2, 1) @ factor @ hessian, np.eye(size), atol=1e-8)


@pytest.mark.parametrize("size", [1, 5, 64, 65, 150])
def test_rounding_in_order_loses_less_than_rounding_to_nearest(size: int) -> None:
    rows, hessian = problem(2, 2, 6, size)
    grid = grid_of(rows, 4)
    made = round_in_order(rows, inverse_factor(hessian), grid)
    assert ((made >= grid.low) & (made <= grid.high) & (made == np.rint(made))).all()
    nearest = error(grid.nearest(rows), rows, hessian, grid).sum()
    assert error(made, rows, hessian, grid).sum() <= nearest * (1 if size == 1 else 0.8)


def test_operands_that_are_independent_are_rounded_to_nearest() -> None:
    rows, _ = problem(3, 1, 4, 70)
    hessian = np.diag(np.random.default_rng(3).uniform(0.5, 2, 70))[None]
    grid = grid_of(rows, 4)
    assert np.array_equal(round_in_order(rows, inverse_factor(hessian), grid), grid.nearest(rows))


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, hessian = problem(4, 2, 3, 50)
    grid, factor = grid_of(rows, 4), inverse_factor(hessian)
    whole = round_in_order(rows, factor, grid)
    monkeypatch.setattr("graphopt.passes.rounding.second_order.BLOCK", 7)
    assert np.array_equal(round_in_order(rows, factor, grid), whole)


@pytest.mark.parametrize("group", [0, 5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_beam_of_one_rounds_in_order(group: int, symmetric: bool) -> None:
    rows, hessian = problem(4, 2, 3, 50)
    grid, factor = grid_of(rows, 4, group, symmetric=symmetric), inverse_factor(hessian)
    made = round_by_beam(rows, factor, grid, 1)
    assert np.allclose(made, round_in_order(rows, factor, grid))


def test_a_wide_beam_comes_near_the_best_there_is() -> None:
    """All ways to take one of the two nearest integers are kept; a third is hardly ever better."""
    rows, hessian = problem(5, 2, 3, 6)
    grid, factor = grid_of(rows, 5), inverse_factor(hessian)
    made = error(round_by_beam(rows, factor, grid, 1 << 6), rows, hessian, grid)
    start = np.floor(rows / grid.along(grid.scale))
    steps = np.array(list(itertools.product(range(-1, 3), repeat=6)), float)
    all_ways = np.stack([error(np.clip(start + s, grid.low, grid.high), rows, hessian, grid) for s in steps])
    assert np.allclose(made, all_ways.min(0), rtol=0.01)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_beam_loses_less_than_rounding_in_order(bits: int) -> None:
    rows, hessian = problem(7, 1, 10, 64)
    grid, factor = grid_of(rows, bits), inverse_factor(hessian)
    assert width_for(rows) == WIDEST
    in_order, widely = (
        error(made, rows, hessian, grid).sum()
        for made in (
            descended(round_in_order(rows, factor, grid), rows, hessian, grid),
            SecondOrder()(rows, hessian, grid, True)[0],
        )
    )
    assert widely < 0.9 * in_order


def test_large_layers_are_not_searched_widely() -> None:
    assert width_for(np.empty((1, 512, 512))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_descent_ends_where_no_single_change_helps(seed: int) -> None:
    rows, hessian = problem(seed, 2, 3, 12)
    grid = grid_of(rows, 4, group=5)
    start = grid.nearest(rows)
    made = descended(start, rows, hessian, grid, sweeps=100)
    reached = error(made, rows, hessian, grid)
    assert (reached <= error(start, rows, hessian, grid)).all()
    for column, step in itertools.product(range(12), (-1, 1)):
        other = made.copy()
        other[..., column] = np.clip(other[..., column] + step, grid.low, grid.high)
        assert (error(other, rows, hessian, grid) >= reached * (1 - 1e-9)).all()


def test_second_order_comes_near_the_best_there_is() -> None:
    rows, hessian = problem(6, 1, 8, 5)
    grid = grid_of(rows, 3)
    choices = np.array(list(itertools.product(range(grid.low, grid.high + 1), repeat=5)), float)
    best = [error(choices[None], rows[:, k : k + 1], hessian, _row(grid, k)).min() for k in range(8)]
    integers, same = SecondOrder()(rows, hessian, grid, True)
    assert same is grid
    made, nearest = (error(i, rows, hessian, grid).sum() for i in (integers, grid.nearest(rows)))
    assert sum(best) <= made <= sum(best) + 0.5 * (nearest - sum(best))


def _row(grid: Grid, row: int) -> Grid:
    return Grid(
        grid.scale[:, row : row + 1], grid.zero_point[:, row : row + 1], grid.low, grid.high, grid.group_of
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_learned_rounding_is_next_to_the_weights_and_loses_less(symmetric: bool) -> None:
    rows, hessian = problem(10, 2, 6, 60)
    grid = grid_of(rows, 4, symmetric=symmetric)
    made = learned(rows, hessian, grid)
    units = np.clip(rows / grid.along(grid.scale) + grid.along(grid.zero_point), grid.low, grid.high)
    assert (np.abs(made - units) <= 1).all()
    assert ((made >= grid.low) & (made <= grid.high)).all()
    nearest = error(grid.nearest(rows), rows, hessian, grid).sum()
    assert error(made, rows, hessian, grid).sum() < 0.6 * nearest


@pytest.mark.parametrize("group", [0, 4])
def test_scales_of_least_error(group: int) -> None:
    rows, hessian = problem(7, 2, 3, 11)
    grid = grid_of(rows, 3, group)
    integers = grid.nearest(rows)
    better = rescaled(integers, rows, hessian, grid)
    reached = error(integers, rows, hessian, better)
    assert (reached < error(integers, rows, hessian, grid)).all()
    if not group:
        for factor in (0.999, 1.001):
            other = Grid(better.scale * factor, better.zero_point, grid.low, grid.high, grid.group_of)
            assert (error(integers, rows, hessian, other) > reached).all()


def test_scales_never_get_worse_where_few_can_be_stored() -> None:
    rows, hessian = problem(12, 4, 50, 9)
    grid = grid_of(rows, 4)
    integers = grid.nearest(rows)
    for _ in range(3):
        better = rescaled(integers, rows, hessian, grid)
        assert np.array_equal(better.scale, better.scale.astype(np.float16))
        reached, before = (error(integers, rows, hessian, tried) for tried in (better, grid))
        assert (reached <= before * (1 + 1e-12)).all()
        grid = better


@pytest.mark.parametrize(("size", "shift", "free"), [(9, 0.0, False), (9, 3.0, True), (200, 0.0, True)])
def test_zero_points_are_paid_for(size: int, shift: float, free: bool) -> None:
    """For rows of nine they take half a bit a weight, which would halve the error; what is lopsided gains more."""
    random = np.random.default_rng(13)
    rows = random.uniform(-1, 1, (1, 30, size)) + shift
    _, grid = SecondOrder(zero_points=True)(rows, np.eye(size)[None], grid_of(rows, 4), False)
    assert grid.zero_point.any() == free


def test_more_freedom_loses_less() -> None:
    rows, hessian = problem(8, 1, 20, 40)
    rows = rows + 0.8
    lost = {}
    for name, method in {
        "nearest": Nearest(),
        "learned": Learned(),
        "one": SecondOrder(),
        "zero": SecondOrder(zero_points=True),
    }.items():
        grid = grid_of(rows, 4)
        integers, grid = method(rows, hessian, grid, False)
        lost[name] = error(integers, rows, hessian, grid).sum()
    assert lost["zero"] < lost["one"] < 0.5 * lost["nearest"]
    assert lost["learned"] < 0.7 * lost["nearest"]


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operands with a mean, float weights, and what the layer should return."""
    random = np.random.default_rng(9)
    x = (random.normal(size=(2, 1000, 6)) @ random.normal(size=(2, 6, 6)) + 1).astype(np.float32)
    weights = random.normal(size=(2, 3, 6))
    y = x @ weights.transpose(0, 2, 1) + 0.5 + random.normal(size=(2, 1000, 3)) * 0.1
    return x, weights, y.astype(np.float32)


def test_moments_give_the_mean_squared_error(samples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, weights, y = samples
    moments = Moments.of([(x[:, :300], y[:, :300]), (x[:, 300:], y[:, 300:])])
    bias = np.full((2, 3), 0.4)
    for chosen in (None, bias):
        made = x @ weights.transpose(0, 2, 1) + (0 if chosen is None else chosen[:, None])
        direct = np.square(y - made).mean(axis=1)
        got = mean_squared_error(moments, weights, chosen)
        assert np.allclose(got, direct, atol=ROUNDING * moments.power.max())


def test_a_refit_is_least_squares(samples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, weights, y = samples
    moments = Moments.of([(x, y)]).about_mean()
    got = refitted(moments, weights, 0.0)
    for group in range(2):
        ones = np.concatenate([x[group], np.ones((1000, 1))], axis=1)
        direct, *_ = np.linalg.lstsq(ones, y[group], rcond=None)
        assert np.allclose(got[group], direct[:6].T, atol=1e-3)
    assert np.abs(refitted(moments, weights, 1e6) - weights).max() < 1e-5


def test_one_sample_has_no_covariance_but_is_rounded() -> None:
    """What is left of its moments about the mean is the rounding of float32, of either sign."""
    random = np.random.default_rng(5)
    x = random.normal(3.0, 1.0, (4, 1, 24)).astype(np.float32)
    moments = Moments.of([(x, x[:, :, :2])]).about_mean()
    assert np.linalg.eigvalsh(moments.operands).min() < 0
    weights = random.normal(size=(4, 2, 24))
    inverse_factor(damped(moments.operands, 0.0, moments.rounding))
    assert np.abs(refitted(moments, weights, 0.0) - weights).max() < 1
