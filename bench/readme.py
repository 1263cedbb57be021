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
SHOWN = ("onnxruntime", "openvino", "ncnn", "nncf", "apache-tvm")
"""Packages whose versions stand below the table."""
SHOWN_FIGURES = (
    "geomean",
    "worst",
    "a72",
    "a76",
    "int8_over",
    "library",
    "most_bits",
    "sqnr",
    "bit",
    "m4f",
    "m55",
    "ram",
    "flash",
    "answers",
    "rows_missed",
    "masked",
)
"""How the names of figures begin that stand there, too."""


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
    peers = _peers(report)
    threads = f"{together} threads" if together > 1 else "1 thread"
    lines = [
        _line("model", OURS, *peers, "ratio", f"{OURS}, {threads}", f"ratio, {threads}"),
        _line("---", *["---:"] * (len(peers) + 4)),
    ]
    rows = {(row["model"], row["threads"]): row for row in report.rows}
    for model in dict.fromkeys(row["model"] for row in report.rows):
        first, last = rows[model, alone], rows[model, together]
        numbers = (*(first.get(who) for who in (OURS, *peers)), first["ratio"], last[OURS], last["ratio"])
        lines.append(_line(model, *map(_number, numbers)))
    return _section(lines, f"Milliseconds on {_place()}; {_versions()}", report)


def int8_table(report: Report) -> str:
    """Milliseconds of everyone's int8 file, the ratio to the best peer, and what ours gains over our float model."""
    peers = _peers(report)
    gains = ("over float", "of library")
    lines = [
        _line("model", OURS, *peers, "ratio", "times our float's speed", "of our float's library"),
        _line("---", *["---:"] * (len(peers) + 4)),
    ]
    for row in report.rows:
        numbers = (row.get(column) for column in (OURS, *peers, "ratio", *gains))
        lines.append(_line(row["model"], *map(_number, numbers)))
    return _section(lines, f"Milliseconds on one thread of {_place()}; {_versions()}", report)


def quantisation_table(report: Report, ours: Sequence[str]) -> str:
    """Metric and SQNR of each of `ours` beside the float model and the best peer's SQNR."""
    lines = [
        _line("model", "float", *(f"{tool}: metric | SQNR" for tool in ours), "best peer's SQNR"),
        _line("---", *["---:"] * (2 * len(ours) + 2)),
    ]
    rows = {(row["model"], row["tool"]): row for row in report.rows}
    for model in dict.fromkeys(row["model"] for row in report.rows):
        made = [rows[model, tool] for tool in ours]
        numbers = [f"{rows[model, 'float']['metric']:.2f}"]
        for row in made:
            numbers += [f"{row['metric']:.2f}", f"{row['SQNR']:.1f}"]
        lines.append(_line(model, *numbers, f"{made[0]['best peer']:.1f}"))
    return _section(lines, f"Metrics in per cent, SQNR in decibels, on test sets; {_versions()}", report)


def compression_table(report: Report) -> str:
    """Of each row the loss with its interval, naively and in the end, and the share of time that is left."""
    lines = [
        _line("row", "model", "top-1", "naive loss", "loss before learning", "loss", "95 %", "time", "size"),
        _line("---", "---", *["---:"] * 7),
    ]
    for row in report.rows:
        losses = (_points(row.get(name)) for name in ("float", "naive", "before", "loss"))
        between = f"{_points(row.get('low'))} to {_points(row.get('high'))}"
        shares = (_points(row.get(name)) for name in ("latency", "size"))
        lines.append(_line(row["row"], row["model"], *losses, between, *shares))
    told = "Top-1 in per cent and points of it on test sets; time and size of the file as shares of the original's"
    return _section(lines, f"{told}, on {_place()}; {_versions()}", report)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


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
    return _section(lines, f"Millions of instructions; {peers}", report)


def mcu_table(report: Report) -> str:
    """Of each quantised model and core instructions, flash and RAM beside TensorFlow Lite Micro's; of floats cycles."""
    lines = [
        _line(
            "model",
            "target",
            "M instructions",
            "TFLite Micro",
            "ratio",
            "flash",
            "RAM",
            "ratio of RAM",
            "overhead",
        ),
        _line("---", "---", *["---:"] * 7),
    ]
    columns = (
        "M instr", "TFLM", "ratio", "flash", "RAM", "RAM ratio", "overhead",
    )  # fmt: skip
    for row in report.rows:
        if row["kind"] == "int8":
            cells = (_cell(row.get(column)) for column in columns)
            lines.append(_line(row["model"], row["core"], *cells))
    lines += ["", _line("float32 model", "M cycles", "best peer", "its", "ratio")]
    lines.append(_line("---", "---:", "---", "---:", "---:"))
    for row in report.rows:
        if row["kind"] == "float32":
            first, last = _cell(row["M cycles"]), map(_cell, (row["its"], row["cycle ratio"]))
            lines.append(_line(row["model"], first, row["best peer"], *last))
    return _section(lines, "Instructions are counted, cycles modelled; bytes", report)


def _cell(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else _number(value)


def _section(lines: Sequence[str], told: str, report: Report) -> str:
    """A table with what is told of it, the day and the figures below."""
    figures = (
        f"`{name}` {value:.2f}" for name, value in report.figures.items() if name.startswith(SHOWN_FIGURES)
    )
    below = f"{told}; {datetime.date.today().isoformat()}; {', '.join(figures)}."
    return "\n".join(["", *lines, "", below, ""])


def _peers(report: Report) -> list[str]:
    return [column for column in ("ONNX Runtime", "OpenVINO", "ncnn") if column in report.columns]


def _place() -> str:
    return f"{machine()['processor']}, {machine()['cores']} cores, vectors of {load_target('host').vector_bits} bits"


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items() if name in SHOWN)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
