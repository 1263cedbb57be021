"""What a program calls: load, optimize, compile.

graph = graphopt.load("model.onnx", input_shapes={"x": (1, 3, 224, 224)})
bundle = graphopt.compile(graph, target="rpi4", out="model.bundle")
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import UnsupportedError, UsageError, did_you_mean
from graphopt.ir import Graph, Node
from graphopt.pipeline import Pass, Pipeline, PipelineRecord, parse_pipeline

if TYPE_CHECKING:
    import onnx

    from graphopt.targets.bundle import Bundle
    from graphopt.targets.device import Target
    from graphopt.targets.firmware.options import FirmwareOptions
    from graphopt.targets.tuning.advice import Advice

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done, and the steps in all."""

FLOAT32, FLOAT16 = PRECISIONS = "float32", "float16"
"""What kernels compute in."""

SELFTEST_SEED = 0

LISTED_AT_MOST = 5
"""Unsupported nodes named in one error line."""


@dataclass(frozen=True)
class OptimizeResult:
    """The optimised graph and what each pass did."""

    graph: Graph
    record: PipelineRecord


def load(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Read an ONNX model; `input_shapes` fixes symbolic dimensions of inputs by name.

    Raises ModelError for a file that is not valid ONNX, UnsupportedError for what the IR cannot hold.
    """
    from graphopt.onnx_io.read import read_model

    return read_model(source, input_shapes=input_shapes)


def optimize_with_record(
    graph: Graph,
    pipeline: str | Pipeline | None = None,
    *,
    explain: Iterable[str] = (),
    before_pass: Callable[[int, Pass], None] | None = None,
    after_pass: Callable[[Pass, Graph], None] | None = None,
) -> OptimizeResult:
    """Run `pipeline` (default: `graphopt.passes.DEFAULT`) on a copy of `graph`."""
    steps = resolve_pipeline(pipeline)
    copy = graph.clone()
    record = steps.run(copy, explain=explain, before_pass=before_pass, after_pass=after_pass)
    return OptimizeResult(copy, record)


def optimize(graph: Graph, pipeline: str | Pipeline | None = None) -> Graph:
    """A copy of `graph`, optimised: same inputs, same outputs, fewer and cheaper nodes."""
    return optimize_with_record(graph, pipeline).graph


def resolve_pipeline(pipeline: str | Pipeline | None) -> Pipeline:
    """The pipeline of a spec string; None is the default one. Raises UsageError."""
    from graphopt import passes

    if isinstance(pipeline, Pipeline):
        return pipeline
    return parse_pipeline(passes.DEFAULT if pipeline is None else pipeline, passes.catalog())


def compile(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    *,
    target: str | Path | Target = "host",
    out: str | Path | None = None,
    name: str | None = None,
    pipeline: str | Pipeline | None = None,
    input_shapes: Mapping[str, Sequence[int]] | Sequence[Mapping[str, Sequence[int]]] | None = None,
    threads: int | None = None,
    profile: bool = False,
    winograd: bool = True,
    precision: str = FLOAT32,
    keep_inputs: bool = False,
    c_only: bool = False,
    ram: int | None = None,
    flash: int | None = None,
    patch: bool | None = None,
    tuning_db: str | Path | None = None,
    progress: Progress | None = None,
    explain: Iterable[str] = (),
    after_pass: Callable[[Pass, Graph], None] | None = None,
) -> Bundle:
    """Compile a model into a bundle: a library without dependencies, its header and a report.

    `out` is the folder to write, `<name>.bundle` by default; `name` becomes the prefix of the C functions.
    `input_shapes` fixes symbolic dimensions of inputs by name; a sequence of them gives one library for several
    shapes, which have their weights in common. `threads` is the default thread count, the target's cores unless
    given. With `profile` the library can tell each layer's time on the first shape. Without `winograd` every
    convolution is the plain sum: weights take less room, and rounding errors are a little smaller. `precision`
    "float16" computes in float16 where that is safe, on targets with arithmetic for it; inputs and outputs keep their
    types. Firmware has its inputs and outputs in the arena, where a run writes over inputs; with `keep_inputs` they are
    the caller's buffers, as those of a library always are; with `c_only` it is C99 and nothing else. `ram` and `flash`
    are the bytes that a model may take there: what does not fit is refused. With `patch` its first layers are computed
    in bands of rows where that takes less RAM; by default only where it does not fit otherwise. `tuning_db` is a
    database that `tune` wrote: its decisions for the same kernels, or else for near shapes, replace the defaults, and
    the bundle's report says for how many. `explain` names rules
    whose misses the bundle's `record` keeps; `after_pass` sees the graph of the first shape after each pass.
    Nothing is left at `out` when something fails. Raises GraphoptError.
    """
    from graphopt.preparation import grouped_for, halved, legalized
    from graphopt.report.layers import bundle_report
    from graphopt.targets.aot import compile_model
    from graphopt.targets.bundle import check_destination, write_bundle
    from graphopt.targets.device import Target, load_target
    from graphopt.targets.firmware.options import FirmwareOptions
    from graphopt.targets.firmware.plain_c import plain_core

    machine = target if isinstance(target, Target) else load_target(str(target))
    half = computes_in_half(precision, machine)
    asked = FirmwareOptions(keep_inputs, c_only, ram, flash, patch)
    if asked.given and not machine.is_firmware:
        hint = "leave it out, or name a target without an operating system, such as cortex-m4f"
        raise UsageError(f"{asked.given} is for firmware", where=f"target {machine.name}", hint=hint)
    core = plain_core(machine) if c_only else machine
    shapes = [input_shapes or {}] if isinstance(input_shapes, Mapping | None) else list(input_shapes) or [{}]
    if isinstance(model, Graph) and any(shapes):
        raise UsageError("input_shapes are for a model that is not loaded yet", hint="give them to load()")
    originals = [model if isinstance(model, Graph) else load(model, input_shapes=chosen) for chosen in shapes]
    advice = None if tuning_db is None else _advice(Path(tuning_db), machine, winograd=winograd, half=half)
    steps = resolve_pipeline(pipeline)
    title = identifier_of(model, originals[0], name)
    destination = Path(out or f"{title}.bundle")
    check_destination(destination)
    results = []
    for number, original in enumerate(originals):
        is_first = number == 0
        results.append(
            optimize_with_record(
                original,
                steps,
                explain=explain if is_first else (),
                before_pass=_passes_done(steps, number, len(originals), progress),
                after_pass=after_pass if is_first else None,
            )
        )
    ready = [legalized(result.graph, fixed_point=machine.is_fixed_point) for result in results]
    for graph in ready:
        check_supported(graph, machine)
    if half:
        ready = [halved(graph) for graph in ready]
    grouped = [] if machine.is_firmware else [grouped_for(graph, machine, half=half) for graph in ready]
    options = {
        "name": name,
        "threads": threads,
        "profile": profile,
        "winograd": winograd,
        "precision": precision,
        **asked.asked(),
        "input_shapes": [{key: list(shape) for key, shape in chosen.items()} for chosen in shapes if chosen],
    }
    extra = {"pipeline": str(steps), "options": options, "source": source_fingerprint(model)}
    if machine.is_firmware:
        check_firmware_options(machine, shapes=len(shapes), threads=threads, profile=profile)
        bundle = _firmware_bundle(
            originals[0],
            ready[0],
            machine,
            core,
            title,
            destination,
            results[0],
            extra,
            asked,
            progress,
        )
        return dataclasses.replace(bundle, record=results[0].record)
    compiled = compile_model(
        grouped,
        machine,
        title,
        threads=threads,
        profile=profile,
        winograd=winograd,
        half=half,
        advice=advice,
        progress=progress,
    )
    tuning = {} if advice is None else {"tuning": advice.summary()}
    report, *more = [
        bundle_report(original, program, compiled.schedules, result.record, machine, precision=precision)
        for original, program, result in zip(originals, compiled.programs, results, strict=True)
    ]
    bundle = write_bundle(
        destination,
        compiled.abi,
        library=compiled.library,
        target=machine,
        report={**report, **tuning, **({"more_shapes": more} if more else {})},
        manifest_extra={**extra, "weights_bytes": len(compiled.weights.blob)},
        optimized=exported(results[0].graph),
    )
    return dataclasses.replace(bundle, record=results[0].record)


def _advice(database: Path, target: Target, *, winograd: bool, half: bool) -> Advice:
    """What a tuning database says of a target. Raises UsageError where there is none, or nothing to be tuned."""
    from graphopt.targets.tuning.advice import Advice
    from graphopt.targets.tuning.database import read

    if target.is_firmware:
        hint = "leave the database out"
        raise UsageError("kernels of firmware cannot be tuned yet", where=f"target {target.name}", hint=hint)
    return Advice(read(database), target, winograd, half)


def check_firmware_options(target: Target, *, shapes: int, threads: int | None, profile: bool) -> None:
    """Raise UsageError for what a microcontroller has none of."""
    where = f"target {target.name}"
    if shapes > 1:
        raise UsageError("firmware holds one shape", where=where, hint="compile a bundle for each shape")
    if threads is not None and threads > 1:
        raise UsageError("firmware has no threads", where=where, hint="leave the number of threads out")
    if profile:
        hint = "`graphopt verify` counts the instructions of each layer"
        raise UsageError("firmware has no clock to profile with", where=where, hint=hint)


def _firmware_bundle(
    original: Graph,
    ready: Graph,
    machine: Target,
    core: Target,
    name: str,
    destination: Path,
    result: OptimizeResult,
    extra: Mapping[str, object],
    options: FirmwareOptions,
    progress: Progress | None,
) -> Bundle:
    """The bundle of sources for a microcontroller; `ready` is what the self-test's outputs are taken from, `core` the
    machine as kernels are chosen for it."""
    from graphopt.data import input_specs
    from graphopt.patching import Made, compile_patched
    from graphopt.preparation import grouped_for
    from graphopt.report.layers import bundle_report
    from graphopt.runtime import reference
    from graphopt.targets.bundle import write_files
    from graphopt.targets.firmware.compile import compile_firmware
    from graphopt.targets.firmware.interface import quantizations
    from graphopt.targets.firmware.layer_checks import layer_checks, on_steps, rounded_outputs
    from graphopt.targets.firmware.selftest import Sample
    from graphopt.verification import random_sample

    def make(graph: Graph) -> Made:
        grouped = grouped_for(graph, core)
        checks = layer_checks(grouped, inputs)  # before weights are packed
        made = compile_firmware(grouped, core, name, original=original, options=options, progress=progress)
        return made, checks, made.files(machine, quantizations(original), Sample(inputs, outputs, checks))

    inputs = on_steps(ready, random_sample(input_specs(ready), SELFTEST_SEED))
    outputs = reference.run(ready, inputs)
    chosen = compile_patched(ready, make, machine, options)
    compiled = chosen.compiled
    report = bundle_report(original, compiled.program, compiled.schedules, result.record, machine)
    rounded = {"rounded_outputs": sorted(found)} if (found := rounded_outputs(chosen.checks)) else {}
    return write_files(
        destination,
        compiled.abi,
        chosen.files,
        target=machine,
        report=report | chosen.told(),
        manifest_extra={**extra, **rounded, "weights_bytes": len(compiled.program.weights.blob)},
        optimized=exported(result.graph),
    )


def computes_in_half(precision: str, target: Target) -> bool:
    """Whether `precision` asks for float16. Raises UsageError for an unknown one, or one the target lacks."""
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        raise UsageError(f"there is no precision '{precision}'", hint=hint)
    if precision == FLOAT32:
        return False
    if not target.computes_in_half:
        raise UsageError(
            f"{target.name} has no arithmetic on float16",
            where="precision",
            hint="leave it out, or name a target that has, such as rpi5; a file of yours tells it by "
            'features = ["fullfp16"]',
        )
    return True


def _passes_done(
    steps: Pipeline, number: int, graphs: int, progress: Progress | None
) -> Callable[[int, Pass], None]:
    """What tells the progress before each pass over graph `number` of so many."""

    def before_pass(index: int, step: Pass) -> None:
        if progress:
            progress("optimising", number * len(steps.passes) + index, graphs * len(steps.passes))

    return before_pass


def check_supported(graph: Graph, target: Target) -> None:
    """Raise UnsupportedError listing what stands in the way, before any work starts."""
    from graphopt.preparation import obstacles
    from graphopt.targets.abi import TEXTS_HINT, not_passable

    for where, reason in not_passable(graph):
        raise UnsupportedError(reason, where=where, hint=TEXTS_HINT)
    dynamic = [v for v in graph.inputs if not v.is_static]
    if dynamic:
        shapes = " ".join(f"--input-shape {v.name}=..." for v in dynamic)
        listed = ", ".join(f"'{v.name}' is {v.type}" for v in dynamic)
        raise UnsupportedError(f"shapes must be fixed: {listed}", hint=f"add {shapes}")
    problems = obstacles(graph)
    if problems:
        listed = "; ".join(
            f"node '{node.origin.known_as(node.name)}' ({node.key}): {reason}"
            for node, reason in problems[:LISTED_AT_MOST]
        )
        more = f"; and {len(problems) - LISTED_AT_MOST} more" if len(problems) > LISTED_AT_MOST else ""
        raise UnsupportedError(
            f"{target.name} cannot run {listed}{more}",
            hint=_way_out(problems, target),
        )


def _way_out(problems: Sequence[tuple[Node, str]], target: Target) -> str:
    from graphopt.preparation import CONTROL_FLOW_HINT
    from graphopt.targets.lower.support import MICROSOFT, MICROSOFT_HINT

    if all(node.subgraphs for node, _ in problems):
        return CONTROL_FLOW_HINT
    if all(node.domain == MICROSOFT for node, _ in problems):
        return MICROSOFT_HINT
    return f"`graphopt inspect MODEL --target {target.name}` lists them all"


def identifier_of(model: object, graph: Graph, name: str | None) -> str:
    """The C prefix: `name`, else the file's stem, else the graph's name."""
    from graphopt.targets.abi import RESERVED, identifier

    if name is not None:
        if name in RESERVED:
            reason = f"'{name}' would hide a C header, a library or a Python module of that name"
            raise UsageError(reason, where="name", hint=identifier(name))
        if identifier(name) != name:
            raise UsageError(
                f"'{name}' is not a lower-case C identifier", where="name", hint=identifier(name)
            )
        return name
    return identifier(Path(model).stem if isinstance(model, str | Path) else graph.name)


def source_fingerprint(model: object) -> dict[str, str]:
    """What was compiled: the sha256 of the file or bytes, where there are any."""
    if isinstance(model, str | Path):
        data = Path(model).read_bytes()
        return {"file": Path(model).name, "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(model, bytes):
        return {"sha256": hashlib.sha256(model).hexdigest()}
    return {}


def exported(graph: Graph) -> bytes | None:
    """The optimised graph as an ONNX file; None where it holds operators that ONNX lacks."""
    from graphopt.onnx_io.write import to_bytes

    try:
        return to_bytes(graph)
    except UnsupportedError:
        return None
