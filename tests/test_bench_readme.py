"""The table that a benchmark writes into README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.common import Report
from bench.readme import README, cpu_table, write_section


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


def test_the_readme_has_the_section() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.index("<!-- bench.cpu -->") < text.index("<!-- end of bench.cpu -->")


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
