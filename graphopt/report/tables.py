"""Tables and numbers for people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

WIDTH_OF_A_FILE = 160
"""Columns when the output is not a terminal: names stay whole."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """A table; columns of numbers, units included, are right-aligned. Cells are put into words by `cell`."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        numeric = any(map(_is_number, cells)) and all(c in (None, "") or _is_number(c) for c in cells)
        made.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell(value)) for value in row))
    return _titled(title, made)


def facts(title: str, entries: Mapping[str, Any]) -> RenderableType:
    """Two columns: a name and what is to say about it; a list takes a line for each item."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="cyan")
    made.add_column(overflow="fold")
    for name, value in entries.items():
        lines = value if isinstance(value, list) else [value]
        made.add_row(escape(name), escape("\n".join(map(cell, lines))))
    return _titled(title, made)


def _titled(title: str, made: Table) -> RenderableType:
    """The title on a line of its own: a table would break it at its width."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(cell(title), style="bold"), made) if title else made


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Pairs as lines, the second parts below one another."""
    width = max((len(first) for first, _ in rows), default=0)
    return [f"{first:{width}}  {second}" for first, second in rows]


def show(*renderables: Any) -> None:
    """Print to standard output; into a file or a pipe without colours and without spaces at the ends of lines."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE, highlight=False)
    if sys.stdout.isatty():
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def show_json(data: Any) -> None:
    """Print as JSON to standard output; infinities and NaN become null, which JSON lacks."""
    sys.stdout.write(json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n")


def cell(value: Any) -> str:
    """Any value in words: `1,234`, `0.0123`, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "".join(c if c.isprintable() else " " for c in str(value))


def size(count: int) -> str:
    """Bytes in words: `512 B`, `12.3 KiB`, `4.0 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def amount(count: int | None) -> str:
    """A large count in words: `950`, `12.5 K`, `4.1 M`, `1.8 G`; `-` for None."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("", " K", " M", " G"):
        if abs(value) < 1000:
            return f"{value:.0f}" if not unit else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"


def duration(seconds: float) -> str:
    """`12.3 us`, `4.56 ms`, `7.89 s`."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


_QUANTITY = re.compile(r"[+-]\d+|[\d.,]+ ?(%|x|[KMGT]|B|[KMG]iB|us|ms|s)")


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _QUANTITY.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if abs(data) != float("inf") and data == data else None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data
