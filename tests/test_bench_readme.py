"""The tables that benchmarks write into README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.common import Report
from bench.readme import README, cpu_table, int8_table, quantisation_table, write_section


def test_only_the_section_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n")
    write_section(page, "x", "new \\1\n")
    assert page.read_text() == "before\n<!-- x -->\nnew \\1\n<!-- end of x -->\nafter\n"


def test_a_page_without_the_section_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(ValueError, match="0 sections"):
        write_section(page, "x", "new\n")
    assert page.read_text() == "nothing here\n"


@pytest.mark.parametrize("name", ["bench.cpu", "bench.int8", "bench.quantisation", "bench.arm", "bench.mcu"])
def test_the_readme_has_the_section(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert text.index(f"<!-- {name} -->") < text.index(f"<!-- end of {name} -->")


def test_a_peer_that_is_absent_shows_a_dash() -> None:
    columns = ("model", "threads", "graphopt", "ONNX Runtime", "OpenVINO", "ncnn", "ratio")
    common = {"model": "net", "ONNX Runtime": 3.0, "OpenVINO": 2.0}
    rows = [
        {**common, "threads": 1, "graphopt": 1.5, "ratio": 0.75},
        {**common, "threads": 2, "graphopt": 0.9, "ratio": 0.5},
    ]
    text = cpu_table(Report("t", columns, rows, {"geomean_1t_large": 0.75, "peak": 1.0}), [1, 2])
    assert "| net | 1.5 | 3 | 2 | - | 0.75 | 0.9 | 0.5 |" in text
    assert "`geomean_1t_large` 0.75." in text


def test_int8_shows_what_it_gains() -> None:
    columns = ("model", "threads", "graphopt", "ours in float", "ONNX Runtime", "OpenVINO", "ratio")
    row = {"model": "net", "graphopt": 1.5, "ours in float": 4.5, "ONNX Runtime": 3.0, "ratio": 0.5}
    rows = [{**row, "over float": 3.0, "of library": 0.25}]
    text = int8_table(Report("t", columns, rows, {"int8_over_float_net": 3.0}))
    assert "| net | 1.5 | 3 | - | 0.5 | 3 | 0.25 |" in text
    assert "`int8_over_float_net` 3.00." in text


def test_quantisation_shows_metric_and_noise() -> None:
    def row(tool: str, metric: float, sqnr: float | None) -> dict:
        return {"model": "net", "tool": tool, "metric": metric, "SQNR": sqnr, "best peer": 31.2}

    rows = [row("float", 91.0, None), row("ours", 90.9, 36.52), row("peer", 80.0, 31.2)]
    text = quantisation_table(Report("t", ("model", "tool"), rows, {"worst_loss_int8": 0.1}), ["ours"])
    header, rule, line = text.strip().split("\n")[:3]
    assert header.count("|") == rule.count("|") == line.count("|")
    assert line == "| net | 91.00 | 90.90 | 36.5 | 31.2 |"
