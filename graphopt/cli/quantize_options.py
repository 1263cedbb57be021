"""The options of quantisation, which `quantize` and `compile` share, and how they become a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.api import Progress
    from graphopt.quantization import QuantizeResult

SCHEMES_HELP = "Such as `int8`, `16x8`, `int4`, `dynamic`, `weights-int4{group=64}`."

Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        "-c",
        metavar="DATA",
        help="Samples: .npz or .npy, FILE.npz:ARRAY, a folder of .npy, or module:function.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="NODE", help="A layer that stays float; `*` for any letters. Repeatable."
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess", metavar="MODULE:FUNCTION", help="Turns a stored sample into the model's inputs."
    ),
]
Samples = Annotated[int | None, typer.Option("--samples", min=1, help="Take the first so many.")]
ObserverName = Annotated[
    str, typer.Option("--observer", metavar="SPEC", help="How ranges are found, such as `min-max`.")
]
Methods = Annotated[
    str,
    typer.Option(
        "--methods",
        metavar="NAMES",
        help="How weights are fitted to the samples: `default`, `none`, `equalize+default`, `round+bias` ...",
    ),
]
MaxLoss = Annotated[
    str | None,
    typer.Option(
        "--max-loss",
        metavar="LOSS",
        help="Give layers more bits until no more is lost: of the metric, or of the outputs, such as `1%`.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="KEY", help="An array in DATA's .npz, a file, or module:function."),
]
MetricName = Annotated[
    str, typer.Option("--metric", metavar="NAME", help="Of the labels, such as `top1`, or module:function.")
]
Evaluate = Annotated[
    str | None,
    typer.Option(
        "--evaluate", metavar="MODULE:FUNCTION", help="Judges a model in place of labels; higher is better."
    ),
]


DEFAULTS = {"observer": "min-max", "methods": "default", "metric": "top1"}


@dataclass(frozen=True)
class QuantizeOptions:
    """What was given on the command line."""

    calibration: str | None
    scheme: str
    exclude: Sequence[str] | None
    observer: str
    methods: str
    preprocess: str | None
    samples: int | None
    max_loss: str | None
    labels: str | None
    metric: str
    evaluate: str | None

    @property
    def given(self) -> list[str]:
        """Options that only quantisation has a use for."""
        optional = ("calibration", "exclude", "preprocess", "samples", "max_loss", "labels", "evaluate")
        found = [name for name in optional if getattr(self, name)]
        found += [name for name in ("observer", "methods", "metric") if getattr(self, name) != DEFAULTS[name]]
        return [f"--{name.replace('_', '-')}" for name in found]

    def quantize(self, model: Path, progress: Progress, **options: Any) -> QuantizeResult:
        """Raises UsageError."""
        from graphopt.quantization import quantize

        return quantize(
            model,
            self.calibration,
            scheme=self.scheme,
            exclude=self.exclude or (),
            observer=self.observer,
            methods=self.methods,
            preprocess=self.preprocess,
            limit=self.samples,
            max_loss=None if self.max_loss is None else share(self.max_loss),
            labels=self.labels,
            metric=self.metric,
            evaluate=self.evaluate,
            progress=progress,
            **options,
        )


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
