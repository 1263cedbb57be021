"""Numbers in words, columns that line up."""

from __future__ import annotations

import pytest

from graphopt.report.tables import amount, cell, columns, duration, facts, show, show_json, size, table


def shown(capsys: pytest.CaptureFixture[str], made: object) -> list[str]:
    show(made)
    return capsys.readouterr().out.splitlines()


def test_numbers_in_words() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 * 2**20 // 2, 3 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "2.5 MiB",
        "3.0 GiB",
    ]
    assert [amount(n) for n in (None, 950, 12_500, 4_100_000, 1_800_000_000)] == [
        "-",
        "950",
        "12.5 K",
        "4.1 M",
        "1.8 G",
    ]
    assert [duration(s) for s in (1.234e-5, 4.567e-3, 7.8901)] == ["12.3 us", "4.57 ms", "7.89 s"]
    assert [cell(v) for v in (None, True, 1234567, 0.012345, 12345.6, "a\nb")] == [
        "-",
        "yes",
        "1,234,567",
        "0.0123",
        "12,346",
        "a b",
    ]


def test_numbers_stand_right_and_texts_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["a", 1, "1.5 ms", "+3"], ["bcd", None, "", "-12"], ["e", 12345, "100 us", ""]]
    assert shown(capsys, table("A title that is longer than the table", ("name", "n", "t", "c"), rows)) == [
        "A title that is longer than the table",
        "",
        " name       n       t    c",
        " ─────────────────────────",
        " a          1  1.5 ms   +3",
        " bcd        -          -12",
        " e     12,345  100 us",
        "",
    ]


def test_facts_take_a_line_for_each_item(capsys: pytest.CaptureFixture[str]) -> None:
    made = facts("[bold]", {"one": 1, "many": columns([("x", "float32"), ("longer", "int8")])})
    assert shown(capsys, made) == ["[bold]", "one   1", "many  x       float32", "      longer  int8"]


def test_names_with_markup_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert " [red]x[/red]" in shown(capsys, table("", ("[b]",), [["[red]x[/red]"]]))


def test_json_has_no_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": [float("inf"), 1.5], 2: float("nan"), "é": None})
    assert capsys.readouterr().out == '{\n "a": [\n  null,\n  1.5\n ],\n "2": null,\n "é": null\n}\n'
