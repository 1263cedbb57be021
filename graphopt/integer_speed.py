"""How fast a quantised model is beside its float original here, and why where it is no faster.

The reasons follow from data: what the target's instruction for bytes multiplies in a cycle
(`graphopt.targets.schedules.templates.dot`) beside its multiply-adds of float32, the share of float's work that
Winograd's transforms spare, the share that is of integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.api import Progress
from graphopt.measurement import Run, measure
from graphopt.runnable import Runnable
from graphopt.runtime.manifest import runs_here
from graphopt.runtime.module import Module
from graphopt.targets.device import Target

CHANNELS, OUTPUTS, VECTORS = 16, 32, 8
"""Of a layer in which every instruction finds whole steps: input channels, columns, vectors of output channels."""

LITTLE = 2.5
"""Multiply-adds of bytes for one of float, below which other work may outweigh the gain."""

NOTABLE = 0.1
"""Share of the multiply-adds from which on it is told."""


@dataclass(frozen=True)
class Speed:
    """The least seconds of a run on one thread; `reasons` where the quantised model is slower."""

    float_seconds: float
    quantised_seconds: float
    reasons: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times as fast it is."""
        return self.float_seconds / self.quantised_seconds


def measure_speed(
    models: Sequence[Runnable],
    sample: Mapping[str, np.ndarray],
    integer_macs: float,
    seconds: float,
    progress: Progress | None = None,
) -> Speed | None:
    """Of the float model and the quantised one, in turns for so many seconds each; None where they cannot run here."""
    first, second = least_seconds(models, sample, 1, seconds, progress)
    if first is None or second is None:
        return None
    return Speed(first, second, slow_reasons(models, first / second, integer_macs))


def least_seconds(
    models: Sequence[Runnable],
    sample: Mapping[str, np.ndarray],
    threads: int,
    seconds: float,
    progress: Progress | None = None,
) -> list[float | None]:
    """The least seconds of a run of each; None for what another machine would run."""
    runs: dict[tuple[str, int], Run] = {}
    for number, model in enumerate(models):
        if seconds and model.bundle is not None and not runs_here(model.bundle.manifest["target"]):
            module = Module(model.bundle.path)
            module.set_num_threads(threads)
            runs[str(number), threads] = lambda module=module: module(sample)  # type: ignore[misc]
    taken = measure(runs, seconds * len(runs), progress) if runs else {}
    return [min(taken.get((str(number), threads), ()), default=None) for number in range(len(models))]


def slow_reasons(models: Sequence[Runnable], ratio: float, integer_macs: float) -> tuple[str, ...]:
    """Why the second of two models is slower, being `ratio` times as fast as the first; nothing where it is not."""
    first, second = (model.bundle for model in models)
    if round(ratio, 2) >= 1 or first is None or second is None:
        return ()
    return tuple(reasons(second.target, first.report, integer_macs))


def reasons(target: Target, float_report: Mapping[str, Any], integer_macs: float) -> list[str]:
    """Why integers may not help; `integer_macs` is their share of the quantised model's multiply-adds."""
    told = []
    if integer_macs <= 1 - NOTABLE:
        told.append(f"{integer_macs:.0%} of its multiply-adds are of integers")
    name, gain = gain_of_bytes(target)
    if gain < LITTLE:
        told.append(
            f"{target.name} multiplies bytes by {name}: {gain:.1f} times float's multiply-adds at best"
        )
    share = winograd_share(float_report)
    if share >= NOTABLE:
        told.append(f"Winograd's transforms spare float multiplications in {share:.0%} of its multiply-adds")
    return told or ["the time is not in multiplications: `bench --per-layer` shows where it goes"]


def gain_of_bytes(target: Target) -> tuple[str, float]:
    """The instruction that multiplies bytes, and its multiply-adds a cycle over those of float32, at best."""
    from graphopt.targets.schedules.templates.dot import choose_dot, tile_of

    dtype = "int8" if target.multiplies_signed else "uint8"
    dot = choose_dot(target, dtype, np.zeros(1, np.int8), CHANNELS)
    cycles = tile_of(dot, OUTPUTS, VECTORS, target).cycles
    of_bytes = OUTPUTS * VECTORS * dot.lanes * dot.depth / cycles
    return dot.name, of_bytes / (target.vector_bits // 32 * target.fma_per_cycle)


def winograd_share(report: Mapping[str, Any]) -> float:
    """Of a bundle's multiply-adds, those in layers that Winograd's transforms make cheaper."""
    layers = [(layer["macs"] or 0, layer["schedule"]) for layer in report["layers"]]
    total = sum(macs for macs, _ in layers)
    return sum(macs for macs, schedule in layers if "winograd" in schedule) / total if total else 0.0
