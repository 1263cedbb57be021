"""A comparison of two models as tables for people, and as data for programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphopt.report import tables

if TYPE_CHECKING:
    from graphopt.analysis.integers import IntegerShares
    from graphopt.comparison import LayerError, ModelComparison, Side
    from graphopt.metrics import Score


def as_tables(comparison: ModelComparison) -> list[Any]:
    """Side by side, then layer by layer."""
    return [_summary(comparison), *_layers(comparison)]


def as_data(comparison: ModelComparison) -> dict[str, Any]:
    """Everything, with names as in the classes."""
    data = asdict(comparison)
    for side, told in zip(comparison.sides, data["sides"], strict=True):
        if side.shares is not None:
            told["integer_weights"], told["integer_macs"] = side.shares.of_weights, side.shares.of_macs
            told["bits_a_weight"] = side.shares.bits_a_weight
        del told["shares"]
    if comparison.loss is not None:
        data["loss"] = dict(zip(("value", "low", "high"), comparison.loss, strict=True))
    return {**data, "speedup": comparison.speedup}


def summary_rows(comparison: ModelComparison) -> list[tuple[str, str, str, str]]:
    """What is compared, the first model, the second, and what that means for the second."""
    a, b = comparison.sides
    rows = []
    if a.score is not None and b.score is not None and comparison.loss is not None:
        told = loss_text(comparison.loss, a.score.unit)
        rows.append((a.score.metric, score_text(a.score), score_text(b.score), told))
    if comparison.signal is not None:
        rows.append(("SQNR", "", score_text(comparison.signal), f"of '{comparison.output}'"))
    if comparison.agreement is not None:
        rows.append(("same largest", "", score_text(comparison.agreement), ""))
    if a.seconds or b.seconds:
        threads = f"{comparison.threads} thread{'s' if comparison.threads > 1 else ''}"
        times = ["-" if side.seconds is None else tables.duration(side.seconds) for side in (a, b)]
        faster = speed_text(comparison.speedup) if comparison.speedup else ""
        rows.append((f"time, {threads}", times[0], times[1], faster))
        rows += [("", "", "", f"for {reason}") for reason in comparison.reasons]
    rows.append(_sizes("library", a.library_bytes, b.library_bytes))
    rows.append(_sizes("file", a.file_bytes, b.file_bytes))
    rows.append(_shares("integer weights", comparison, lambda shares: shares.of_weights))
    rows.append(_shares("integer MACs", comparison, lambda shares: shares.of_macs))
    return [row for row in rows if set(row[1:3]) != {"-"}]


def layer_cells(layer: LayerError) -> tuple[str, str, str, str, str]:
    return (
        layer.value,
        layer.operator,
        _number(layer.sqnr, "dB") if math.isfinite(layer.sqnr) else ("exact" if layer.sqnr > 0 else "-"),
        f"{100 * layer.worst:.2g} %",
        "integers" if layer.quantised else "",
    )


def titles(comparison: ModelComparison) -> tuple[str, str]:
    """Above the two tables."""
    a, b = comparison.sides
    machines = " and ".join(dict.fromkeys(side.machine for side in (a, b)))
    return (
        f"{a.name} and {b.name} on {comparison.samples:,} samples, on {machines}",
        f"Inner values that both have, on {comparison.layer_samples} samples",
    )


def speed_text(ratio: float) -> str:
    """Of a first time over a second."""
    told = f"{ratio:.2f}x"
    if told == "1.00x":
        return "as fast"
    return f"{told} as fast" if ratio > 1 else f"slower here: {told} as fast"


def _summary(comparison: ModelComparison) -> Any:
    a, b = comparison.sides
    names = ("", a.name, b.name if b.name != a.name else f"{b.name} (second)", "")
    return tables.table(titles(comparison)[0], names, summary_rows(comparison))


def _layers(comparison: ModelComparison) -> list[Any]:
    if not comparison.layers:
        return []
    columns = ("value", "operator", "SQNR", "worst error", "reads")
    return [tables.table(titles(comparison)[1], columns, [layer_cells(l) for l in comparison.layers])]


def loss_text(loss: tuple[float, float, float], unit: str) -> str:
    """How much worse or better, and the interval of that where there is one."""
    value, low, high = loss
    word = "worse" if value >= 0 else "better"
    if value < 0:
        low, high = -high, -low
    told = f"{word} by {_number(abs(value), unit)}" if value else "equal"
    if math.isnan(low) or low == high == value:
        return told
    return f"{told} ({_number(low, unit, signed=True)} to {_number(high, unit, signed=True)})"


def score_text(score: Score) -> str:
    """The value, and its interval where there is one."""
    value, low, high = (_number(number, score.unit) for number in (score.value, score.low, score.high))
    return value if math.isnan(score.low) else f"{value} ({low} to {high})"


def _number(value: float, unit: str, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    match unit:
        case "%":
            return f"{100 * value:{sign}.2f} %"
        case "dB":
            return f"{value:{sign}.1f} dB"
    return f"{value:{sign}.4g}"


def _sizes(title: str, a: int | None, b: int | None) -> tuple[str, str, str, str]:
    shown = tuple("-" if size is None else tables.size(size) for size in (a, b))
    share = f"{100 * b / a:.0f} % of the first" if a and b else ""
    return (title, shown[0], shown[1], share)


def _shares(
    title: str, comparison: ModelComparison, share: Callable[[IntegerShares], float | None]
) -> tuple[str, str, str, str]:
    def shown(side: Side) -> str:
        value = None if side.shares is None else share(side.shares)
        return "-" if value is None else f"{100 * value:.1f} %"

    a, b = comparison.sides
    return (title, shown(a), shown(b), "")
