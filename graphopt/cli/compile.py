"""`graphopt compile`: from a model to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

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


def compile_model(
    model: ModelArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; else MODEL's name.")
    ] = None,
    target: TargetName = "host",
    input_shape: InputShapes = None,
    pipeline: PipelineSpec = None,
    threads: Threads = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Prefix of the C functions; else made of MODEL's name.")
    ] = None,
    json: Json = False,
) -> None:
    """Compile MODEL into a bundle: a library without dependencies, its header, and a report.

    The bundle is a folder to copy to the device. An older bundle at the same place is replaced.

    Example: `graphopt compile model.onnx --target rpi4 -o model.bundle`
    """
    from graphopt import api
    from graphopt.cli.progress import progress
    from graphopt.report.tables import show, show_json
    from graphopt.targets.bundle import check_destination

    shapes = input_shapes(input_shape)
    if out is not None:
        check_destination(out)
    start = time.perf_counter()
    with progress(quiet=json) as step:
        bundle = api.compile(
            model,
            target=target,
            out=out,
            name=name,
            pipeline=pipeline,
            input_shapes=shapes or None,
            threads=threads,
            progress=step,
        )
    seconds = time.perf_counter() - start
    if json:
        show_json(
            {
                "path": str(bundle.path),
                "library": str(bundle.library),
                "library_bytes": bundle.library.stat().st_size,
                "contract": bundle.manifest["contract"],
                "target": bundle.manifest["target"]["name"],
                "seconds": seconds,
            }
        )
    else:
        show(*_summary(bundle, seconds))


def _summary(bundle: Any, seconds: float) -> list[Any]:
    from graphopt.report.tables import facts, size

    abi, target = bundle.abi, bundle.manifest["target"]
    entries = {f"input {s.name}": f"{s.dtype}{list(s.shape)}" for s in abi.inputs}
    entries |= {f"output {s.name}": f"{s.dtype}{list(s.shape)}" for s in abi.outputs}
    entries |= {
        "library": size(bundle.library.stat().st_size),
        "weights": size(bundle.manifest["weights_bytes"]),
        "workspace": size(abi.workspace_bytes),
        "target": f"{target['name']} ({target['description']})",
        "took": f"{seconds:.1f} s",
    }
    return [facts(str(bundle.path), entries)]
