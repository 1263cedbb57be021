"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from graphopt.errors import UsageError

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")]
BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A folder made by `graphopt compile`.")
]
INPUTS_HELP = "Arrays by input name, one sample or many; FILE.npz:ARRAY for a model's only input."
"""What --inputs takes."""

InputShapes = Annotated[
    list[str] | None,
    typer.Option("--input-shape", metavar="NAME=1,3,224,224", help="Fix an input's shape. Repeatable."),
]
SeveralInputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="NAME=1,3,224,224",
        help="Fix an input's shape. Given again for the same NAME: another shape in the same library.",
    ),
]
PipelineSpec = Annotated[
    str | None,
    typer.Option("--pipeline", metavar="SPEC", help="Passes to run, such as `canonicalize,fold-batchnorm`."),
]


def target_option(otherwise: str = "") -> Any:
    """--target; `otherwise` tells what happens without it."""
    text = f"A name `graphopt targets` lists, or a TOML file. {otherwise}".strip()
    return typer.Option("--target", "-t", metavar="NAME|FILE", help=text)


TargetName = Annotated[str, target_option()]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of tables.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="How many threads share a run.")
]


def input_shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """`["x=1,3,224,224"]` as a mapping; `NAME=` is a scalar. Raises UsageError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in map(_input_shape, texts or ()):
        if name in shapes:
            raise UsageError(f"'{name}' is given twice", where="--input-shape", hint="give it once")
        shapes[name] = shape
    return shapes


def several_input_shapes(texts: Sequence[str] | None) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of a library that holds several: the first of each name together, the second of each, ...

    A name that is given once has that shape in all of them. Raises UsageError.
    """
    given: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in map(_input_shape, texts or ()):
        given.setdefault(name, []).append(shape)
    counts = {name: len(shapes) for name, shapes in given.items()}
    several = {name: count for name, count in counts.items() if count > 1}
    if len(set(several.values())) > 1:
        listed = ", ".join(f"'{name}' {count} times" for name, count in several.items())
        raise UsageError(
            f"it is not clear which shapes belong together: {listed}",
            where="--input-shape",
            hint="give each name once, or all as often as there are shapes",
        )
    number = max(counts.values(), default=1)
    return [
        {name: shapes[k] if len(shapes) > 1 else shapes[0] for name, shapes in given.items()}
        for k in range(number)
    ]


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, dims = text.rpartition("=")
    parts = [part.strip() for part in dims.replace("x", ",").split(",")] if dims.strip() else []
    if not equals or not name or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"'{text}' is not a shape", where="--input-shape", hint="write NAME=1,3,224,224")
    shape = tuple(map(int, parts))
    if 0 in shape:
        raise UsageError(f"'{text}' has no elements", where="--input-shape", hint="write numbers from 1 on")
    return name, shape
