"""What quantisation did, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.report.tables import facts, table

if TYPE_CHECKING:
    from graphopt.quantization import Report


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
