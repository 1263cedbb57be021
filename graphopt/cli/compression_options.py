"""Options of the commands that make a model smaller, and how their texts are read."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from graphopt.errors import UsageError

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        metavar="DATA",
        help="Samples, labelled or not: .npz or .npy, FILE.npz:ARRAY, a folder of .npy, or module:function.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="KEY", help="An array in DATA's .npz, a file, or module:function."),
]
MetricName = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", help="Of the labels: `top1` unless given, or module:function."),
]
Evaluate = Annotated[
    str | None,
    typer.Option(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        help="Judges a model in place of labels; higher is better.",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess", metavar="MODULE:FUNCTION", help="Turns a stored sample into the model's inputs."
    ),
]
SampleCount = Annotated[int | None, typer.Option("--samples", min=1, help="Take the first so many.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="NODE", help="A node that is left as it is; `*` for any letters. Repeatable."
    ),
]


def share_of(text: str | None, option: str) -> float | None:
    """`50%` or `0.5`. Raises UsageError for what is no share of a whole."""
    if text is None:
        return None
    number, whole = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / whole
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise UsageError(f"'{text}' is no share of a whole", where=option, hint="write 50% or 0.5")
    return value
