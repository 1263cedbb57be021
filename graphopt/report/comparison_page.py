"""A comparison as one HTML page without scripts: the tables, and the layers' SQNR as bars."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.report.comparison import layer_cells, summary_rows, titles
from graphopt.runtime.files import written_beside

if TYPE_CHECKING:
    from graphopt.comparison import LayerError, ModelComparison

FULL_SCALE = 60.0
"""Decibels of the longest bar."""

BAR_WIDTH, BAR_HEIGHT = 240, 12
GOOD, POOR = 30.0, 15.0
"""Decibels from which a bar is green, and below which it is red."""

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 0 0 2em; }
th, td { text-align: left; padding: .25em 1em .25em 0; border-bottom: 1px solid #ddd; }
.good { fill: #3a8f4d } .fair { fill: #d9a21b } .poor { fill: #c0392b } .rest { fill: #eee }
"""


def page(comparison: ModelComparison) -> str:
    """The page's text: equal comparisons give equal pages."""
    a, b = comparison.sides
    above, layers = titles(comparison)
    parts = [f"<h1>{html.escape(above)}</h1>", _table(("", a.name, b.name, ""), summary_rows(comparison))]
    if comparison.layers:
        rows = [(*layer_cells(layer), _Raw(_bar(layer))) for layer in comparison.layers]
        columns = ("value", "operator", "SQNR", "worst error", "reads", f"0 to {FULL_SCALE:.0f} dB")
        parts += [f"<h2>{html.escape(layers)}</h2>", _table(columns, rows)]
    head = (
        f"<meta charset='utf-8'/><title>{html.escape(a.name)} and {html.escape(b.name)}</title>"
        f"<style>{STYLE}</style>"
    )
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def write_page(path: Path, comparison: ModelComparison) -> None:
    """Write it whole or not at all. Raises UsageError."""
    with written_beside(path) as beside:
        beside.write_text(page(comparison), encoding="utf-8")


class _Raw(str):
    """HTML already."""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        shown = (cell if isinstance(cell, _Raw) else html.escape(cell) for cell in cells)
        return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in shown)}</tr>"

    return f"<table>{line(columns, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _bar(layer: LayerError) -> str:
    shown = FULL_SCALE if math.isinf(layer.sqnr) and layer.sqnr > 0 else layer.sqnr
    width = round(BAR_WIDTH * min(max(shown, 0.0), FULL_SCALE) / FULL_SCALE)
    kind = "good" if shown >= GOOD else "fair" if shown >= POOR else "poor"
    rest = f"<rect class='rest' width='{BAR_WIDTH}' height='{BAR_HEIGHT}'/>"
    bar = f"<rect class='{kind}' width='{width}' height='{BAR_HEIGHT}'/>"
    return f"<svg width='{BAR_WIDTH}' height='{BAR_HEIGHT}' role='img'>{rest}{bar}</svg>"
