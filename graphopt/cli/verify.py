"""`graphopt verify`: does a bundle give the model's answers?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import INPUTS_HELP, BundleArgument, Json, ModelArgument

if TYPE_CHECKING:
    from graphopt.targets.firmware.measured import Measured


def verify(
    model: ModelArgument,
    bundle: BundleArgument,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="FILE.npz", help=INPUTS_HELP),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many random samples, without --inputs.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random samples.")] = 0,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest error allowed, as a share of the output's scale; else 1e-4, 0.05 for float16, and four steps "
            "of bytes where firmware rounds floats to integers on the way to an output.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare BUNDLE's outputs with those of MODEL in ONNX Runtime, or in the reference evaluator.

    A bundle for another machine runs under emulation; firmware runs on a board with its core, and instructions, stack,
    flash and RAM are told. Exit code 6 when an output is further off than the tolerance, 2 when MODEL and BUNDLE have
    different inputs or outputs. Another file with the same ones is compared, and told.

    Example: `graphopt verify model.onnx model.bundle --inputs samples.npz`
    """
    from graphopt.cli.arrays import read_npz
    from graphopt.cli.errors import warn
    from graphopt.cli.progress import progress
    from graphopt.report.firmware import measured_table
    from graphopt.report.tables import show, show_json, table
    from graphopt.runtime.manifest import module_info, read_manifest
    from graphopt.verification import verify_bundle

    given = None
    if inputs:
        info = module_info(read_manifest(bundle))
        given = read_npz(inputs, [spec.name for spec in info.inputs])
    with progress(quiet=json) as step:
        result = verify_bundle(
            model, bundle, inputs=given, samples=samples, seed=seed, tolerance=tolerance, progress=step
        )
    if result.oracle_note:
        warn(f"{result.oracle_note}; {result.oracle} judges instead")
    if result.same_source is False:
        warn(f"{bundle} was compiled from another file than {model}; their inputs and outputs are the same")
    if result.only_bundle_is_quantised and result.agrees:
        warn(f"{bundle} is quantised, {model} is not; graphopt compare tells what that costs")
    outputs = result.comparison.outputs
    if json:
        show_json(
            {
                "agrees": result.agrees,
                "worst": result.worst,
                "samples": result.samples,
                "oracle": result.oracle,
                "oracle_note": result.oracle_note,
                "same_source": result.same_source,
                "machine": result.machine,
                **_measured(result.measured),
                "outputs": [
                    {"name": o.name, "absolute": o.absolute, "relative": o.relative, "reason": o.reason}
                    for o in outputs
                ],
            }
        )
    else:
        title = f"{result.samples} samples on {result.machine}, against {result.oracle}"
        rows = [
            [
                o.name,
                o.absolute,
                o.relative,
                o.reason or ("agrees" if o.relative <= result.tolerance_of(o.name) else "differs"),
            ]
            for o in outputs
        ]
        shown: list[Any] = [table(title, ("output", "worst error", "of its scale", ""), rows)]
        if result.measured:
            shown.append(measured_table(result.measured))
        show(*shown)
    result.raise_if_different()


def _measured(measured: Measured | None) -> dict[str, Any]:
    """What firmware took, for programs."""
    if measured is None:
        return {}
    return {
        "instructions": measured.total_instructions,
        "instructions_by_function": dict(measured.instructions),
        "stack_bytes": measured.stack_bytes,
        "ram_bytes": measured.ram_bytes,
        "flash_bytes": measured.flash_bytes,
        "sections": dict(measured.sections),
    }
