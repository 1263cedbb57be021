"""The tables that benchmarks write into README.md, between two comments that name the benchmark."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from bench.common import Report, machine, versions
from graphopt.targets.device import load_target

README = Path(__file__).parent.parent / "README.md"
OURS = "graphopt"
SHOWN = ("onnxruntime", "openvino", "ncnn", "apache-tvm")
"""Packages whose versions stand below the table."""


def write_section(page: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- NAME -->` and `<!-- end of NAME -->`. Raises ValueError where they are missing."""
    marks = (f"<!-- {name} -->", f"<!-- end of {name} -->")
    pattern = re.compile(f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})", re.DOTALL)
    changed, count = pattern.subn(lambda m: f"{m[1]}{text}{m[2]}", page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{page.name} has {count} sections between {marks[0]} and {marks[1]}")
    page.write_text(changed, encoding="utf-8")


def cpu_table(report: Report, counts: Sequence[int]) -> str:
    """Milliseconds of everyone on one thread, the ratio to the best peer on one thread and on all; who, where, when."""
    alone, together = counts[0], counts[-1]
    peers = [column for column in ("ONNX Runtime", "OpenVINO", "ncnn") if column in report.columns]
    threads = f"{together} threads" if together > 1 else "1 thread"
    lines = [
        _line("model", OURS, *peers, "ratio", f"{OURS}, {threads}", f"ratio, {threads}"),
        _line("---", *["---:"] * (len(peers) + 4)),
    ]
    rows = {(row["model"], row["threads"]): row for row in report.rows}
    for model in dict.fromkeys(row["model"] for row in report.rows):
        first, last = rows[model, alone], rows[model, together]
        times = [_number(first.get(who)) for who in (OURS, *peers)]
        lines.append(
            _line(model, *times, _number(first["ratio"]), _number(last[OURS]), _number(last["ratio"]))
        )
    told = ", ".join(f"{name} {version}" for name, version in versions().items() if name in SHOWN)
    place = f"{machine()['processor']}, {machine()['cores']} cores, vectors of {load_target('host').vector_bits} bits"
    means = ", ".join(
        f"`{name}` {value:.2f}"
        for name, value in report.figures.items()
        if name.startswith(("geomean", "worst"))
    )
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"Milliseconds on {place}; {told}; {datetime.date.today().isoformat()}; {means}.",
            "",
        ]
    )


def arm_table(report: Report) -> str:
    """Instructions of ours and of the best peer, the ratio, and the ratio of modelled cycles; when."""
    lines = [
        _line("model", "target", OURS, "best peer", "ratio", "ratio of modelled cycles"),
        _line("---", "---", *["---:"] * 4),
    ]
    for row in report.rows:
        numbers = (
            row[column] for column in ("M instructions", "its M instructions", "ratio", "ratio of cycles")
        )
        lines.append(_line(row["model"], row["device"], *(_number(number) for number in numbers)))
    peers = ", ".join(sorted({row["best peer"] for row in report.rows}))
    means = ", ".join(f"`{name}` {value:.2f}" for name, value in report.figures.items())
    told = f"Millions of instructions; {peers}; {datetime.date.today().isoformat()}; {means}."
    return "\n".join(["", *lines, "", told, ""])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
