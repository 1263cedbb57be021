"""What bench.compression concludes from its rows; its commands are ones that the command line takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from bench.compressed import Subject, commands
from bench.compression import figures, masked_equal_cases
from bench.compression_rows import ROWS, Row
from bench.variations import pictures
from graphopt.cli.app import app


def row(name: str, **more: float | None) -> dict:
    return {"row": name, "asked": 1.0, "asked latency": 0.65, **more}


def test_rows_that_miss_what_is_asked() -> None:
    rows = [
        row("good", loss=1.0, latency=0.65),
        row("lossy", loss=1.1, latency=0.5),
        row("slow", loss=-0.2, latency=0.7),
        {**row("any_time", loss=0.1, latency=2.0), "asked latency": None},
        row("failed"),
    ]
    assert figures(rows) == {
        "loss_good": 1.0,
        "latency_good": 0.65,
        "loss_lossy": 1.1,
        "latency_lossy": 0.5,
        "loss_slow": -0.2,
        "latency_slow": 0.7,
        "loss_any_time": 0.1,
        "latency_any_time": 2.0,
        "rows_missed": 3,
    }


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_commands_parse(case: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step reads what the one before wrote, and has only options that there are."""
    monkeypatch.setattr(Subject, "data", tmp_path / "data.npz")
    subject = Subject(case.model, 0, tmp_path)
    group = typer.main.get_command(app)
    for steps in (case.steps, case.naive):
        before = str(subject.model)
        for command, out in commands(case, subject, steps, "ours"):
            words = shlex.split(command)
            assert before in words and words[-1] != before and str(out) in words
            name, sub, rest = group.resolve_command(typer.Context(group), words[1:])  # type: ignore[attr-defined]
            assert name == words[1] and sub is not None
            for option in (word for word in rest if word.startswith("--")):
                assert option in {text for parameter in sub.params for text in parameter.opts}, option
            before = str(out)


def test_names_of_rows_differ() -> None:
    assert len({case.name for case in ROWS}) == len(ROWS)


@pytest.mark.parametrize("shape", [(6, 1, 3, 8, 8), (6, 1, 8, 8, 3)])
def test_pictures_are_shifted_as_a_whole(shape: tuple[int, ...]) -> None:
    """Colours stay together: each pixel of the result is a pixel of the image."""
    images = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    made = pictures({"x": images}, np.random.default_rng(0))["x"]
    assert made.shape == shape and (made != images).any()
    axis = 1 if shape[2] == 3 else 3
    for before, after in zip(images[:, 0], made[:, 0], strict=True):
        pixels = {tuple(p) for p in np.moveaxis(before, axis - 1, -1).reshape(-1, 3)}
        assert {tuple(p) for p in np.moveaxis(after, axis - 1, -1).reshape(-1, 3)} <= pixels


def test_masked_cases_are_counted() -> None:
    assert masked_equal_cases(2) == 2
