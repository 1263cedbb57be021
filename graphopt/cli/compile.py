"""`graphopt compile`: from a model to a bundle."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
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
from graphopt.cli.quantize_options import SCHEMES_HELP, QuantizeOptions, with_quantize_options
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.quantization import QuantizeResult
    from graphopt.targets.bundle import Bundle


@with_quantize_options
def compile_model(
    model: ModelArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; else MODEL's name.")
    ] = None,
    *,
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
    keep_inputs: Annotated[
        bool,
        typer.Option(
            "--keep-inputs",
            help="Firmware: take inputs and outputs in buffers of the caller's, which takes more RAM.",
        ),
    ] = False,
    c_only: Annotated[
        bool,
        typer.Option("--c-only", help="Firmware: C99 alone, without assembly, intrinsics or .incbin."),
    ] = False,
    ram: Annotated[
        str | None,
        typer.Option("--ram", metavar="BYTES", help="Firmware: the RAM it may take, stack included, as 64K."),
    ] = None,
    flash: Annotated[
        str | None,
        typer.Option(
            "--flash", metavar="BYTES", help="Firmware: the flash it may take, code included, as 256K."
        ),
    ] = None,
    patch: Annotated[
        bool | None,
        typer.Option(
            "--patch/--no-patch",
            help="Firmware: compute the first layers in bands of rows, for less RAM; else only where it must.",
            show_default=False,
        ),
    ] = None,
    tuning_db: Annotated[
        Path | None,
        typer.Option("--tuning-db", metavar="DATABASE", help="Take decisions that `graphopt tune` found."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", metavar="SPEC", help=f"Quantise MODEL first. {SCHEMES_HELP}"),
    ] = None,
    options: QuantizeOptions,
    print_after: PrintAfter = None,
    time_passes: TimePasses = False,
    explain: Explain = None,
    json: Json = False,
) -> None:
    """Compile MODEL into a bundle: a library without dependencies, its header, and a report.

    The bundle is a folder to copy to the device. An older bundle at the same place is replaced.

    Example: `graphopt compile model.onnx --target rpi4 -o model.bundle`

    Example: `graphopt compile model.onnx --input-shape x=1,3,224,224 --input-shape x=8,3,224,224`

    Example: `graphopt compile model.onnx --quantize int8 --calibration samples.npz` (see `graphopt quantize --help`)
    """
    from graphopt import api
    from graphopt.cli.passes import Printer, findings, findings_data
    from graphopt.cli.progress import progress
    from graphopt.report.passes import select_rules
    from graphopt.report.quantization import result_data, result_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.targets.abi import identifier
    from graphopt.targets.firmware.options import bytes_of

    steps = api.resolve_pipeline(pipeline)
    rules = select_rules(steps, explain or ())
    printer = Printer(print_after, None, steps, json)
    shapes = several_input_shapes(input_shape)
    if quantize is None and (given := options.given):
        raise UsageError(f"{given[0]} is for quantisation", hint="add --quantize int8")
    if quantize is not None and len(shapes) > 1:
        raise UsageError("--quantize is for one shape", hint="compile a bundle for each shape")
    options.check(model)
    start = time.perf_counter()
    source: Path | Graph = model
    quantised: QuantizeResult | None = None
    with progress(quiet=json or bool(printer)) as step:
        if quantize is not None:
            quantised = options.quantize(model, step, scheme=quantize, input_shapes=shapes[0], target=target)
            source = quantised.graph
            name = name or identifier(model.stem)
            out = out or Path(f"{identifier(model.stem)}.bundle")
            shapes = [{}]
        bundle = api.compile(
            source,
            target=target,
            out=out,
            name=name,
            pipeline=steps,
            input_shapes=shapes,
            threads=threads,
            profile=profile,
            winograd=winograd,
            precision=precision,
            keep_inputs=keep_inputs,
            c_only=c_only,
            ram=None if ram is None else bytes_of(ram, "--ram"),
            flash=None if flash is None else bytes_of(flash, "--flash"),
            patch=patch,
            tuning_db=tuning_db,
            progress=step,
            explain=rules,
            after_pass=printer.after_pass if printer else None,
        )
    seconds = time.perf_counter() - start
    if json:
        told = {} if quantised is None else {"quantization": result_data(quantised)}
        show_json(_data(bundle, seconds) | told | findings_data(bundle.record, rules))
    else:
        tables = [] if quantised is None else result_tables(quantised, model.name)
        if quantised is not None and (loss := options.told_loss(quantised.loss)):
            tables.append(facts("", loss))
        show(*findings(bundle.record, rules, time_passes), *tables, *_summary(bundle, seconds))


def _data(bundle: Bundle, seconds: float) -> dict[str, Any]:
    made: dict[str, Any] = {"header": str(bundle.header), "weights_bytes": bundle.manifest["weights_bytes"]}
    if not bundle.target.is_firmware:
        made = {"library": str(bundle.library), "library_bytes": bundle.library.stat().st_size}
    return {
        "path": str(bundle.path),
        **made,
        "contract": bundle.manifest["contract"],
        "target": bundle.manifest["target"]["name"],
        "seconds": seconds,
        **({"tuning": bundle.report["tuning"]} if "tuning" in bundle.report else {}),
    }


def _summary(bundle: Bundle, seconds: float) -> list[Any]:
    """What was made, then how to use it."""
    from graphopt.report.bundle import contract_facts
    from graphopt.report.tables import facts

    tuned = bundle.report.get("tuning")
    told = {} if tuned is None else {"tuned kernels": _tuning_told(tuned)}
    entries = contract_facts(bundle) | told | {"took": f"{seconds:.1f} s"}
    return [facts(str(bundle.path), entries), "", facts("", _uses(bundle))]


def _tuning_told(origins: Mapping[str, int]) -> str:
    return (
        f"{origins['exact']} by the database, {origins['nearest']} by its nearest shapes, "
        f"{origins['default']} by default"
    )


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
