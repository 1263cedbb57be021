"""The options of quantisation, which `quantize` and `compile` share, and how they become a call."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from graphopt.cli.files import check_place
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.api import Progress
    from graphopt.quantization import QuantizeResult

SCHEMES_HELP = "Such as `int8`, `16x8`, `int4`, `dynamic`, `weights-int4{group=64}`."


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What was given on the command line: each field is an option of both commands."""

    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            "-c",
            metavar="DATA",
            help="Samples: .npz or .npy, FILE.npz:ARRAY, a folder of .npy, or module:function.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="NODE", help="A layer that stays float; `*` for any letters. Repeatable."
        ),
    ] = None
    observer: Annotated[
        str, typer.Option("--observer", metavar="SPEC", help="How ranges are found, such as `min-max`.")
    ] = "min-max"
    ranges: Annotated[
        Path | None, typer.Option("--ranges", metavar="FILE.json", help="Write the ranges that were found.")
    ] = None
    use_ranges: Annotated[
        Path | None,
        typer.Option("--use-ranges", metavar="FILE.json", help="Take the ranges from a file, edited or not."),
    ] = None
    allow_constant: Annotated[
        bool, typer.Option("--allow-constant", help="Also take values that never vary in the samples.")
    ] = False
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="NAMES",
            help="How weights are fitted to the samples: `default`, `none`, `equalize+default`, `round+bias` ...",
        ),
    ] = "default"
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess", metavar="MODULE:FUNCTION", help="Turns a stored sample into the model's inputs."
        ),
    ] = None
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Take the first so many.")] = None
    max_loss: Annotated[
        str | None,
        typer.Option(
            "--max-loss",
            metavar="LOSS",
            help="Give layers more bits until no more is lost: of the metric, or of the outputs, such as `1%`.",
        ),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="KEY", help="An array in DATA's .npz, a file, or module:function."),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="NAME", help="Of the labels: `top1` unless given, or module:function."
        ),
    ] = None
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="MODULE:FUNCTION",
            help="Judges a model in place of labels; higher is better.",
        ),
    ] = None
    integer_io: Annotated[
        bool,
        typer.Option("--integer-io", help="Integers as inputs and outputs; the header tells their scales."),
    ] = False

    @property
    def given(self) -> list[str]:
        """The options that are not as they are by default."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        found = [field.name for field, value in values.items() if value and value != field.default]
        return [f"--{name.replace('_', '-')}" for name in found]

    def check(self, *kept: Path | None) -> None:
        """Raises UsageError, before any work, where ranges would be written over one of `kept`."""
        check_place(self.ranges, *kept)

    def quantize(self, model: Path, progress: Progress, **more: Any) -> QuantizeResult:
        """Quantise and measure; ranges are written where they are wanted. Raises UsageError."""
        from graphopt.analysis.ranges_file import load_ranges, save_ranges
        from graphopt.quantization import quantize

        result = quantize(
            model,
            self.calibration,
            exclude=self.exclude or (),
            observer=self.observer,
            ranges=None if self.use_ranges is None else load_ranges(self.use_ranges),
            allow_constant=self.allow_constant,
            methods=self.methods,
            preprocess=self.preprocess,
            limit=self.samples,
            max_loss=None if self.max_loss is None else share(self.max_loss),
            labels=self.labels,
            metric=self.metric,
            evaluate=self.evaluate,
            measure=self.calibration is not None,
            integer_io=self.integer_io,
            progress=progress,
            **more,
        )
        if self.ranges is not None:
            save_ranges(result.ranges, self.ranges)
        return result

    def told_loss(self, loss: float | None) -> dict[str, str]:
        """The loss in the form in which the bound was given; nothing without one."""
        if self.max_loss is None or loss is None:
            return {}
        found = f"{100 * loss:.4g}%" if self.max_loss.endswith("%") else f"{loss:.4g}"
        return {"loss": f"{found} of {self.max_loss} allowed"}


def with_quantize_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for each field in place of its parameter `options`, which holds them all."""
    hints = get_type_hints(QuantizeOptions, include_extras=True)
    added = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(QuantizeOptions)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        named = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += added if parameter.name == "options" else [named]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = QuantizeOptions(**{option.name: given.pop(option.name) for option in added})
        command(options=options, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def share(text: str) -> float:
    """`1%` or `0.01`. Raises UsageError."""
    number, whole = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / whole
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"'{text}' is no loss", where="--max-loss", hint="write 1% or 0.01")
    return value
