"""What quantisation did, for people and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphopt.report.tables import facts, table

if TYPE_CHECKING:
    from graphopt.passes.rounding.round_weights import Effect
    from graphopt.quantization_report import Report
    from graphopt.sensitivity import Harm


def summary_facts(report: Report) -> dict[str, Any]:
    """The shares, the layers that stay float, and the notes."""
    floats = [layer for layer in report.layers if layer.scheme is None]
    counts: dict[str, int] = {}
    for layer in report.layers:
        if layer.scheme is not None:
            counts[str(layer.scheme)] = counts.get(str(layer.scheme), 0) + 1
    entries: dict[str, Any] = {
        "layers": ", ".join(
            f"{count} {name}" for name, count in [*counts.items(), ("float", len(floats))] if count
        ),
        "multiplications of integers": f"{report.share_of_macs:.1%}",
        "weights kept as integers": f"{report.share_of_weights:.1%}",
    }
    if floats:
        entries["float"] = [f"{layer.name} ({layer.operator}): {layer.reason}" for layer in floats]
    if report.notes:
        entries["note"] = list(report.notes)
    return entries


def report_tables(report: Report, title: str) -> list[Any]:
    return [facts(title, summary_facts(report))]


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


def harm_tables(harms: Sequence[Harm], metric: str) -> list[Any]:
    """The layers in order of harm, and the options that keep the worst of them float."""
    from graphopt.sensitivity import half_of_the_noise

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
        "notes": list(report.notes),
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
