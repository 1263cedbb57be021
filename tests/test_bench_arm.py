"""Figures of the counts on ARM."""

from __future__ import annotations

import pytest

from bench.arm import kernel_figures


def row(schedule: str, multiply_adds: float, inner: float | None, of_bound: float | None) -> dict:
    shares = {"inner": inner, "of bound": of_bound}
    return {"device": "rpi4", "schedule": schedule, "MMACs": multiply_adds, **shares}


def test_shares_are_weighted_by_multiply_adds() -> None:
    rows = [row("direct{a=1}", 3.0, 1.0, 0.75), row("direct{a=2}", 1.0, 0.5, 0.25)]
    found = kernel_figures(rows)
    assert found["rpi4_direct_inner"] == pytest.approx(4 / (3 + 2))
    assert found["rpi4_direct_of_bound"] == pytest.approx(4 / (4 + 4))


def test_layers_without_multiply_adds_of_the_model_have_no_share() -> None:
    assert kernel_figures([row("generic", 0.0, 0.3, None), row("permutation{}", 0.0, None, None)]) == {}
