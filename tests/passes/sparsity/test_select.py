"""Which weights go and what the others become, on small layers by brute force; patterns; budgets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.passes.rounding.moments import squared_error
from graphopt.passes.sparsity import select
from graphopt.passes.sparsity.layers import LEVELS, Layer, ratios
from graphopt.passes.sparsity.patterns import Pattern
from graphopt.passes.sparsity.select import curve, lost_share, solved, sparse


def problem(m: int, k: int, groups: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and the covariance of operands that hang together."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(groups, 4 * k, k)) @ (np.eye(k) + 0.4 * random.normal(size=(k, k)))
    return random.normal(size=(groups, m, k)), x.transpose(0, 2, 1) @ x / (4 * k)


def test_rows_are_solved_exactly_on_their_masks() -> None:
    weights, hessian = problem(3, 6, groups=2)
    mask = np.random.default_rng(1).random(weights.shape) < 0.5
    made = solved(weights, hessian, mask)
    assert (made[~mask] == 0).all()
    gradient = (made - weights) @ hessian
    np.testing.assert_allclose(gradient[mask], 0, atol=1e-9)


def test_gradients_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, hessian = problem(5, 24)
    mask = np.random.default_rng(1).random(weights.shape) < 0.4
    exact = solved(weights, hessian, mask)
    monkeypatch.setattr(select, "MOST_WORK", 0)
    np.testing.assert_allclose(solved(weights, hessian, mask), exact, atol=1e-4)


def test_near_to_the_best_choice_of_weights() -> None:
    """Of each row of eight, three stay: all 56 choices of each are tried."""
    weights, hessian = problem(1, 8)
    ours, plain = [], []
    for seed in range(20):
        weights, hessian = problem(1, 8, seed=seed)

        def lost(made: np.ndarray, weights: np.ndarray = weights, hessian: np.ndarray = hessian) -> float:
            return float(squared_error(made - weights, hessian).sum())

        made = sparse(weights, hessian, Pattern.parse("unstructured"), 5 / 8)
        assert (made == 0).sum() == 5
        masks = np.zeros((56, 1, 1, 8), bool)
        for number, chosen in enumerate(itertools.combinations(range(8), 3)):
            masks[number, ..., list(chosen)] = True
        every = [lost(solved(weights, hessian, mask)) for mask in masks]
        largest = Pattern.parse("unstructured").kept(np.abs(weights), 5 / 8)
        assert min(every) <= lost(made) * (1 + 1e-9)
        ours.append(lost(made) / min(every))
        plain.append(lost(solved(weights, hessian, largest)) / min(every))
    assert np.median(ours) < 1.2 < np.median(plain) and np.mean(ours) < np.mean(plain)


@pytest.mark.parametrize("name", ["2:4", "1:4", "1x4", "unstructured"])
def test_patterns_hold(name: str) -> None:
    weights, hessian = problem(6, 16)
    pattern = Pattern.parse(name)
    ratio = 0.75 if pattern.fixed_ratio is None else pattern.fixed_ratio
    made = sparse(weights, hessian, pattern, ratio)
    stays = (made != 0).reshape(-1, 4).sum(1)
    if name == "2:4":
        assert (stays == 2).all()
    elif name == "1:4":
        assert (stays == 1).all()
    elif name == "1x4":
        assert sorted(stays.tolist()) == [0] * 18 + [4] * 6
    else:
        assert stays.sum() == 24
    mask = pattern.kept(np.square(weights), ratio)
    assert lost_share(weights, made, hessian) < 0.8 * lost_share(weights, np.where(mask, weights, 0), hessian)


def test_what_is_never_read_goes_first() -> None:
    weights, hessian = problem(4, 10)
    hessian[0, :5], hessian[0, :, :5] = 0, 0
    hessian[0] += 1e-9 * np.eye(10)
    made = sparse(weights, hessian, Pattern.parse("unstructured"), 0.5)
    assert (made[..., :5] == 0).all() and (made[..., 5:] != 0).all()


def test_curves_rise_and_budgets_are_kept() -> None:
    layers = [Layer(None, str(n), (8, size)) for n, size in enumerate((24, 60, 12))]  # type: ignore[arg-type]
    pattern = Pattern.parse("unstructured")
    lost = {layer: curve(*problem(8, layer.shape[1], seed=3), pattern, LEVELS) for layer in layers}
    for found in lost.values():
        assert found[0] < 1e-12 and (np.diff(found) > 0).all() and found[-1] < 1
    total = sum(layer.count for layer in layers)
    for ratio in (0.3, 0.8, 0.95):
        shares = ratios(lost, ratio)
        assert sum(shares[layer] * layer.count for layer in layers) == pytest.approx(ratio * total)
    lost[layers[0]] = [1000 * share for share in lost[layers[0]]]
    assert ratios(lost, 0.5)[layers[0]] == 0
    assert max(ratios(lost, 0.999).values()) == LEVELS[-1]


@pytest.mark.parametrize("text", ["", "2:2", "4:2", "0:4", "2x4", "1x1", "nm"])
def test_texts_that_are_no_patterns(text: str) -> None:
    with pytest.raises(UsageError, match="write unstructured, 2:4"):
        Pattern.parse(text)
