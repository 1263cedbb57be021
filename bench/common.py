"""What every benchmark shares: arguments, progress, the table, the JSON file, interleaved timing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PACKAGES = ("graphopt", "apache-tvm", "onnx", "numpy", "onnxruntime", "openvino", "ncnn", "nncf")
ZOO = Path(os.environ.get("GRAPHOPT_ZOO", Path(__file__).parent.parent.parent / "shared"))

WIDTH_OF_A_FILE = 260
"""Columns: a table is read in a file too, and its names stay whole."""

T = TypeVar("T")


@dataclass
class Report:
    """Rows of the table, and the few figures that are compared from run to run.

    `formats` tells how floats of a column are written, where three digits are not right.
    """

    title: str
    columns: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        self.rows.append(row)

    def finish(self, json_path: Path | None) -> None:
        """Print the table and the figures; write the JSON file when asked."""
        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in self.columns:
            numeric = any(isinstance(row.get(column), int | float) for row in self.rows)
            table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(_cell(row.get(column), self.formats.get(column)) for column in self.columns))
        console = Console(width=max(WIDTH_OF_A_FILE, Console().width))
        console.print(table)
        for name, value in self.figures.items():
            console.print(f"{name} = {value:.6g}", highlight=False)
        if json_path:
            text = json.dumps(self.as_dict(), indent=1)
            json_path.write_text(text + "\n")

    def as_dict(self) -> dict[str, Any]:
        return {"machine": machine(), "versions": versions(), "rows": self.rows, "figures": self.figures}


def arguments(description: str) -> argparse.ArgumentParser:
    """The parser every benchmark starts from: `--quick` and `--json FILE`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small part, in about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions, rows and figures")
    return parser


def progress(items: Sequence[T], label: Callable[[T], str]) -> Iterator[T]:
    """The items one by one, with a progress bar on standard error."""
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(items))
        for item in items:
            bar.update(task, description=label(item))
            yield item
            bar.advance(task)


def interleaved(runs: dict[str, Callable[[], object]], seconds: float = 1.0) -> dict[str, float]:
    """The least seconds of each callable, all called in turn until `seconds` per callable are spent.

    The machine may be shared: what disturbs one run disturbs its neighbours too, and the minimum forgets it.
    """
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds * len(runs)
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
        rounds += 1
    return best


def machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def geometric_mean(values: Iterable[float]) -> float:
    import numpy as np

    return float(np.exp(np.mean(np.log(list(values)))))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _cell(value: Any, form: str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and form:
        return format(value, form)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
