"""`graphopt compile`: from a model to a bundle."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import (
    Json,
    ModelArgument,
    PipelineSpec,
    SeveralInputShapes,
    TargetName,
    Threads,
    several_input_shapes,
)
from graphopt.cli.passes import Explain, PrintAfter, TimePasses

if TYPE_CHECKING:
    from graphopt.targets.bundle import Bundle


def compile_model(
    model: ModelArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; else MODEL's name.")
    ] = None,
    target: TargetName = "host",
    input_shape: SeveralInputShapes = None,
    pipeline: PipelineSpec = None,
    threads: Threads = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Prefix of the C functions; else made of MODEL's name.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Let the library tell each layer's time: `bench --per-layer`.")
    ] = False,
    winograd: Annotated[
        bool,
        typer.Option(
            "--winograd/--no-winograd",
            help="Transform 3x3 convolutions where that is faster; weights grow.",
        ),
    ] = True,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="float32|float16",
            help="What to compute in; float16 needs a target with arithmetic for it, such as rpi5.",
        ),
    ] = "float32",
    print_after: PrintAfter = None,
    time_passes: TimePasses = False,
    explain: Explain = None,
    json: Json = False,
) -> None:
    """Compile MODEL into a bundle: a library without dependencies, its header, and a report.

    The bundle is a folder to copy to the device. An older bundle at the same place is replaced.

    Example: `graphopt compile model.onnx --target rpi4 -o model.bundle`

    Example: `graphopt compile model.onnx --input-shape x=1,3,224,224 --input-shape x=8,3,224,224`
    """
    from graphopt import api
    from graphopt.cli.passes import Printer, findings, findings_data
    from graphopt.cli.progress import progress
    from graphopt.report.passes import select_rules
    from graphopt.report.tables import show, show_json

    steps = api.resolve_pipeline(pipeline)
    rules = select_rules(steps, explain or ())
    printer = Printer(print_after, None, steps, json)
    start = time.perf_counter()
    with progress(quiet=json or bool(printer)) as step:
        bundle = api.compile(
            model,
            target=target,
            out=out,
            name=name,
            pipeline=steps,
            input_shapes=several_input_shapes(input_shape),
            threads=threads,
            profile=profile,
            winograd=winograd,
            precision=precision,
            progress=step,
            explain=rules,
            after_pass=printer.after_pass if printer else None,
        )
    seconds = time.perf_counter() - start
    if json:
        show_json(_data(bundle, seconds) | findings_data(bundle.record, rules))
    else:
        show(*findings(bundle.record, rules, time_passes), *_summary(bundle, seconds))


def _data(bundle: Bundle, seconds: float) -> dict[str, Any]:
    return {
        "path": str(bundle.path),
        "library": str(bundle.library),
        "library_bytes": bundle.library.stat().st_size,
        "contract": bundle.manifest["contract"],
        "target": bundle.manifest["target"]["name"],
        "seconds": seconds,
    }


def _summary(bundle: Bundle, seconds: float) -> list[Any]:
    """What was made, then how to use it."""
    from graphopt.report.bundle import contract_facts
    from graphopt.report.tables import facts

    entries = contract_facts(bundle) | {"took": f"{seconds:.1f} s"}
    return [facts(str(bundle.path), entries), "", facts("", _uses(bundle))]


def _uses(bundle: Bundle) -> dict[str, Any]:
    where = shlex.quote(str(bundle.path))
    if not bundle.target.is_native:
        return {
            "try it": f"graphopt run {where} --random --on qemu",
            "its layers": f"graphopt inspect {where}",
            "use it": f"copy the folder to the device; its README.md shows how, from {bundle.header.name} on",
        }
    return {
        "try it": f"graphopt run {where} --random",
        "measure it": f"graphopt bench {where}",
        "its layers": f"graphopt inspect {where}",
        "use it": f"graphopt.Module({str(bundle.path)!r}) in Python; README.md in it shows C and CMake",
    }
