"""`graphopt bench`: how long a bundle takes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import BundleArgument, Json
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.measurement import Benchmark

ABOVE_ROOFLINE = (
    "Above 100 % of roofline: the roofline is of float products and of bytes from memory; data in caches, integers and "
    "Winograd's fewer products go beyond."
)


def bench(
    bundle: BundleArgument,
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N,N,...", help="Numbers of threads to measure.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="How long to measure at each number of threads.")
    ] = 2.0,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL.onnx", help="Measure ONNX Runtime on this model too."),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Each layer's time; BUNDLE must be compiled with --profile.")
    ] = False,
    shape: Annotated[
        int, typer.Option(min=0, help="Number of the inputs' shape, in a bundle for several.")
    ] = 0,
    save: Annotated[
        bool, typer.Option("--save", help="With --per-layer: write the times into BUNDLE's report.json.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure BUNDLE's latency here, on random inputs; with --against, in turns with ONNX Runtime.

    A time is from arrays to new arrays. With --per-layer: where it goes, against what this machine can do.
    Emulated bundles are refused: a count of instructions is not a time.

    Example: `graphopt bench model.bundle --threads 1,2 --against model.onnx`
    """
    from graphopt.cli.progress import progress
    from graphopt.measurement import benchmark_bundle
    from graphopt.report.tables import show, show_json

    if per_layer and against:
        raise UsageError("--per-layer and --against exclude each other", hint="measure one after the other")
    if per_layer:
        count, *more = _numbers(threads) or [1]
        if more:
            raise UsageError("layers are timed on one number of threads", where="--threads", hint="give one")
        if shape:
            raise UsageError(
                "layers are timed on the first shape alone", where="--shape", hint="compile this shape first"
            )
        _layers(bundle, count, seconds, save=save, json=json)
        return
    if save:
        raise UsageError("there are no layers to save", where="--save", hint="add --per-layer")
    with progress(quiet=json) as step:
        result = benchmark_bundle(
            bundle,
            threads=_numbers(threads),
            seconds=seconds,
            against=against,
            shape=shape,
            progress=step,
        )
    if json:
        show_json(_data(result))
    else:
        show(*_tables(bundle.name, result))


def _layers(bundle: Path, threads: int, seconds: float, *, save: bool, json: bool) -> None:
    """The table of layers, the slowest first; with `save` they are added to the bundle's report too."""
    from graphopt.cli.progress import progress
    from graphopt.measurement import layer_times, save_layer_times
    from graphopt.report.tables import duration, show, show_json, table
    from graphopt.roofline import measure_roofline

    with progress(quiet=json) as step:
        times = layer_times(bundle, threads=threads, seconds=seconds, progress=step)
        step("measuring the machine", 0, 1)
        roofline = measure_roofline(threads)
    if save:
        save_layer_times(bundle, times, roofline, threads)
    total = sum(entry.seconds for entry in times)
    rows: list[dict[str, Any]] = [
        {
            "layer": entry.layer["name"],
            "operators": "+".join(entry.layer["operators"]),
            "schedule": entry.layer["schedule"],
            "seconds": entry.seconds,
            "share": entry.seconds / total,
            "gflops": None if entry.flops is None else entry.flops / 1e9,
            "roofline": entry.share_of(roofline),
        }
        for entry in sorted(times, key=lambda entry: -entry.seconds)
    ]
    if json:
        machine = {"flops": roofline.flops, "bytes_per_second": roofline.bandwidth}
        show_json({"threads": threads, "seconds": total, "machine": machine, "layers": rows})
        return
    title = (
        f"{bundle.name}: {duration(total)} on {threads} thread{'s' if threads > 1 else ''}; this machine does "
        f"{roofline.flops / 1e9:.0f} GFLOP/s and reads {roofline.bandwidth / 1e9:.0f} GB/s"
    )
    cells = [
        [
            row["layer"],
            row["operators"],
            row["schedule"],
            duration(row["seconds"]),
            f"{row['share']:.1%}",
            "" if row["gflops"] is None else f"{row['gflops']:.1f}",
            "" if row["roofline"] is None else f"{row['roofline']:.0%}",
        ]
        for row in rows
    ]
    columns = ["layer", "operators", "schedule", "minimum", "share", "GFLOP/s", "of roofline"]
    shown: list[Any] = [table(title, columns, cells)]
    if any((row["roofline"] or 0) > 1 for row in rows):
        shown.append(ABOVE_ROOFLINE)
    show(*shown)


def _numbers(text: str | None) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1024 for part in parts):
        raise UsageError(
            f"'{text}' is not a list of numbers from 1 to 1024", where="--threads", hint="write 1,2,4"
        )
    return [int(part) for part in parts]


def _data(result: Benchmark) -> dict[str, Any]:
    counts = dict.fromkeys(latency.threads for latency in result.latencies)
    return {
        "latencies": [
            {
                "runtime": latency.runtime,
                "threads": latency.threads,
                "runs": len(latency.seconds),
                "minimum_s": latency.minimum,
                "median_s": latency.median,
            }
            for latency in result.latencies
        ],
        "speedup": {count: result.speedup(count) for count in counts},
        "worst_error": result.worst_error,
    }


def _tables(name: str, result: Benchmark) -> list[Any]:
    from graphopt.measurement import OURS
    from graphopt.report.tables import duration, table

    rows = []
    for latency in result.latencies:
        speedup = result.speedup(latency.threads) if latency.runtime == OURS else None
        rows.append(
            [
                latency.runtime,
                latency.threads,
                duration(latency.minimum),
                duration(latency.median),
                len(latency.seconds),
                "" if speedup is None else f"{speedup:.2f}x",
            ]
        )
    columns = ["runtime", "threads", "minimum", "median", "runs", "speed-up"]
    if result.worst_error is None:
        return [table(name, columns[:-1], [row[:-1] for row in rows])]
    agreement = f"Outputs agree within {result.worst_error:.2g} of their scale."
    return [table(name, columns, rows), agreement]
