"""What quantisation did, for people and for programs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphopt.report.comparison import loss_text, score_text
from graphopt.report.tables import duration, facts, size, table

if TYPE_CHECKING:
    from graphopt.float_islands import Island
    from graphopt.integer_speed import Speed
    from graphopt.passes.rounding.effect import Effect
    from graphopt.quality import Quality
    from graphopt.quantization import QuantizeResult
    from graphopt.quantization_report import Report
    from graphopt.sensitivity import Harm


def summary_facts(report: Report) -> dict[str, Any]:
    """The shares, the layers that stay float, and the notes."""
    floats = [layer for layer in report.layers if layer.scheme is None]
    counts: dict[str, int] = {}
    for layer in report.layers:
        if layer.scheme is not None:
            counts[str(layer.scheme)] = counts.get(str(layer.scheme), 0) + 1
    share = report.quantised_bytes / max(report.float_bytes, 1)
    entries: dict[str, Any] = {
        "layers": ", ".join(
            f"{count} {name}" for name, count in [*counts.items(), ("float", len(floats))] if count
        ),
        "multiplications of integers": f"{report.share_of_macs:.1%}",
        "weights kept as integers": f"{report.share_of_weights:.1%}",
        "constants": f"{size(report.quantised_bytes)}, {share:.0%} of the {size(report.float_bytes)} as floats",
    }
    if floats:
        entries["float"] = [f"{layer.name} ({layer.operator}): {layer.reason}" for layer in floats]
    if report.islands:
        entries["reads floats"] = list(map(island_text, report.islands))
    if report.notes:
        entries["note"] = list(report.notes)
    return entries


def island_text(island: Island) -> str:
    """How many nodes of which operator, why, and what bytes would cost."""
    count = "" if len(island.nodes) == 1 else f"{len(island.nodes)} "
    named = f" '{island.nodes[0]}'" if len(island.nodes) == 1 else ""
    told = f"{count}{island.operator}{named}: {island.reason}"
    if island.sqnr is None:
        return told
    return f"{told}; bytes there, floats elsewhere: {_decibels(island.sqnr, 'float')}"


def quality_facts(
    quality: Quality, reference: str = "float", kind: str = "samples of calibration"
) -> dict[str, str]:
    """How near the second model is to the first, which is called `reference`, on which samples."""
    seen = f"{kind} that weights were not fitted to" if quality.held_back else kind
    entries = {"measured on": f"{quality.samples:,} {seen}; `graphopt compare` takes data for tests"}
    for name, sqnr in quality.signals.items():
        title = "SQNR" if len(quality.signals) == 1 else f"SQNR of '{name}'"
        entries[title] = _decibels(sqnr, reference)
    if quality.agreement is not None:
        entries["same largest"] = f"{100 * quality.agreement:.2f} %"
    if quality.scores is not None and quality.loss is not None:
        first, second = quality.scores
        told = f"{score_text(second)}, {reference} {score_text(first)}"
        entries[second.metric] = f"{told}: {loss_text(quality.loss, second.unit)}"
    return entries


def _decibels(sqnr: float | None, reference: str) -> str:
    if sqnr is None:
        return f"not defined: the {reference} model gives zeros"
    return "exact" if sqnr == math.inf else f"{sqnr:.1f} dB"


def speed_facts(speed: Speed) -> dict[str, Any]:
    """How fast here, and why not faster."""
    times = f"{duration(speed.quantised_seconds)}, float {duration(speed.float_seconds)} on one thread"
    told = f"{speed.ratio:.2f} times the float's: {times}"
    return {"speed here": [told, *(f"slower, for {reason}" for reason in speed.reasons)]}


def result_tables(result: QuantizeResult, title: str) -> list[Any]:
    """What was quantised, how good it is, and what is wrong with it."""
    entries = summary_facts(result.report)
    if result.quality is None:
        entries["quality"] = "not measured, for there are no samples; --calibration gives them"
    else:
        entries |= quality_facts(result.quality)
    if result.speed is not None:
        entries |= speed_facts(result.speed)
    if result.warnings:
        entries["warning"] = list(result.warnings)
    return [facts(title, entries)]


def result_data(result: QuantizeResult) -> dict[str, Any]:
    """The same for a program."""
    quality = None if result.quality is None else asdict(result.quality)
    return {
        "loss": result.loss,
        **report_data(result.report),
        "quality": quality,
        "speed": None if result.speed is None else asdict(result.speed),
        "warnings": list(result.warnings),
    }


def layer_table(report: Report) -> Any:
    """One line a layer."""
    rows = [
        [layer.name, layer.operator, layer.macs, layer.weights, str(layer.scheme or "float"), layer.reason]
        for layer in report.layers
    ]
    return table("", ("layer", "operator", "MACs", "weights", "scheme", ""), rows)


def effect_tables(effects: Sequence[Effect]) -> list[Any]:
    """What fitting weights to samples did to each layer."""
    rows = [[effect.layer, f"{effect.before:.1f} dB", f"{effect.after:.1f} dB"] for effect in effects]
    return [table("", ("layer", "SQNR of its results, nearest", "fitted"), rows)] if rows else []


def harm_tables(result: QuantizeResult) -> list[Any]:
    """The layers in order of harm, and the options that keep the worst of them float."""
    from graphopt.sensitivity import half_of_the_noise

    harms, quality = result.harms, result.quality
    metric = quality.scores[0].metric if quality and quality.scores else ""
    total = sum(harm.noise for harm in harms)
    judged = any(harm.loss is not None for harm in harms)
    rows = [
        [
            harm.name,
            harm.layer.op_type,
            f"{harm.sqnr:.1f} dB",
            f"{harm.noise / total:.1%}" if total else "",
            *([f"{harm.loss:+.4f}"] if harm.loss is not None else []),
        ]
        for harm in harms
    ]
    columns = [
        "layer",
        "operator",
        "SQNR alone",
        "of the noise",
        *([f"{metric} lost alone"] if judged else []),
    ]
    worst = half_of_the_noise(harms)
    options = " ".join(f"--exclude {shlex.quote(harm.name)}" for harm in worst)
    told = {"half of the noise": options} if worst else {}
    return [table("Layers in order of harm, each quantised alone", columns, rows), facts("", told)]


def harm_data(harms: Sequence[Harm]) -> list[dict[str, Any]]:
    return [
        {"layer": harm.name, "scheme": str(harm.scheme), "sqnr_db": harm.sqnr, "loss": harm.loss}
        for harm in harms
    ]


def report_data(report: Report) -> dict[str, Any]:
    return {
        "share_of_macs": report.share_of_macs,
        "share_of_weights": report.share_of_weights,
        "float_bytes": report.float_bytes,
        "quantised_bytes": report.quantised_bytes,
        "notes": list(report.notes),
        "float_islands": [
            {
                "operator": island.operator,
                "nodes": list(island.nodes),
                "reason": island.reason,
                "sqnr_in_bytes_db": island.sqnr,
            }
            for island in report.islands
        ],
        "layers": [
            {
                "name": layer.name,
                "operator": layer.operator,
                "macs": layer.macs,
                "weights": layer.weights,
                "scheme": None if layer.scheme is None else str(layer.scheme),
                "reason": layer.reason,
            }
            for layer in report.layers
        ],
    }
