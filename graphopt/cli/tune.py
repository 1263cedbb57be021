"""`graphopt tune`: better decisions for a model's kernels, measured on the device."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import (
    InputShapes,
    Json,
    ModelArgument,
    PipelineSpec,
    TargetName,
    Threads,
    input_shapes,
)

if TYPE_CHECKING:
    from graphopt.tuning.tune import TuneResult


def tune(
    model: ModelArgument,
    database: Annotated[
        Path,
        typer.Option("--database", "-d", metavar="FOLDER", help="Where results are kept, and looked up."),
    ],
    *,
    target: TargetName = "host",
    runner: Annotated[
        str | None,
        typer.Option(
            "--runner",
            metavar="local|qemu",
            help="local: this machine; qemu: instructions under emulation. By default what can run TARGET.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Candidates to measure, over all tasks.")
    ] = 256,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.001, help="End after so long, at the latest.")
    ] = None,
    threads: Threads = None,
    input_shape: InputShapes = None,
    pipeline: PipelineSpec = None,
    winograd: Annotated[
        bool, typer.Option("--winograd/--no-winograd", help="Try transforms of 3x3 convolutions too.")
    ] = True,
    precision: Annotated[
        str, typer.Option("--precision", metavar="float32|float16", help="What to compute in.")
    ] = "float32",
    seed: Annotated[int, typer.Option("--seed", help="Of the search.")] = 0,
    json: Json = False,
) -> None:
    """Measure other decisions than the default ones for the kernels of MODEL, and keep what is found.

    Ends early when nothing gains any more. Ctrl-C is safe at any time: the same command goes on where it was.

    Example: `graphopt tune model.onnx --trials 200 --database db`

    Example: `graphopt compile model.onnx --tuning-db db`
    """
    from graphopt.cli.errors import warn
    from graphopt.cli.progress import progress
    from graphopt.report.tables import show, show_json
    from graphopt.tuning.tune import tune

    try:
        with progress(quiet=json) as step:
            result = tune(
                model,
                target=target,
                database=database,
                runner=runner,
                trials=trials,
                minutes=minutes,
                threads=threads,
                input_shapes=input_shapes(input_shape),
                pipeline=pipeline,
                winograd=winograd,
                precision=precision,
                seed=seed,
                progress=step,
            )
    except KeyboardInterrupt:
        warn(f"what was measured is in {database}; the same command goes on from there")
        raise
    if json:
        show_json(_data(result))
    else:
        use = f"graphopt compile {shlex.quote(str(model))} --target {target} --tuning-db {shlex.quote(str(database))}"
        show(*_tables(result, model.name, use))


def _data(result: TuneResult) -> dict[str, Any]:
    return {
        "runner": result.runner,
        "unit": result.unit,
        "trials": result.trials,
        "seconds": result.seconds,
        "speedup": result.speedup,
        "tasks": [
            {
                "task": state.task.name,
                "workload": state.task.workload.key,
                "groups": state.task.groups,
                "decisions": state.task.size,
                "trials": state.trials,
                "default": _finite(state.default),
                "best": _finite(state.best),
                "speedup": state.speedup,
                "schedule": str(state.choice or state.task.default),
                "faults": state.faults,
            }
            for state in result.tasks
        ],
    }


def _finite(cost: float) -> float | None:
    return cost if cost < float("inf") else None


def _tables(result: TuneResult, model: str, use: str) -> list[Any]:
    from graphopt.report.tables import duration, facts, table
    from graphopt.tuning.tune import costs

    rows = [
        [
            state.task.name,
            state.task.groups,
            state.trials,
            len(state.faults),
            "" if state.default == float("inf") else costs(state.default, result.unit),
            "" if state.best == float("inf") else costs(state.best, result.unit),
            f"{state.speedup:.2f}x",
            str(state.choice or state.task.default),
        ]
        for state in result.tasks
    ]
    names = ["task", "layers", "trials", "failed", "default", "best", "speed-up", "schedule"]
    title = f"{model}: {result.trials} trials in {duration(result.seconds)} ({result.runner})"
    told = {"these layers": f"{result.speedup:.2f}x as fast as by default", "use it": use}
    return [table(title, names, rows), facts("", told)]
