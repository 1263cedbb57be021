"""Ahead of time: from a fused graph to a shared library and everything that goes with it.

The library is kernels (an object file), weights (raw bytes in read-only data), the thread pool, and an entry
function in plain C that calls the kernels one after another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import UnsupportedError
from graphopt.ir import Graph
from graphopt.targets import c_runtime
from graphopt.targets.abi import ALIGNMENT, ModelAbi, check_shapes
from graphopt.targets.device import Target
from graphopt.targets.entry import entry_source
from graphopt.targets.header import header_text
from graphopt.targets.kernels import Progress, compile_groups
from graphopt.targets.program import Program, build_program, needs_kernel
from graphopt.targets.toolchain import Toolchain
from graphopt.targets.weights import Weights

if TYPE_CHECKING:
    from graphopt.targets.tuning.advice import Advice


@dataclass(frozen=True)
class CompiledModel:
    """A linked library, its contract, the program of each shape, and how each kernel is scheduled."""

    abi: ModelAbi
    library: bytes
    programs: tuple[Program, ...]
    weights: Weights
    schedules: dict[str, str]


def compile_model(
    graphs: Sequence[Graph],
    target: Target,
    name: str,
    *,
    threads: int | None = None,
    profile: bool = False,
    winograd: bool = True,
    half: bool = False,
    advice: Advice | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile a model from its fused graphs, one for each shape of its inputs; `name` is a C identifier.

    With `profile` the library has a second entry that tells each layer's time on the first shape; without
    `winograd` convolutions are plain sums; with `half` float16 is computed in itself, not in float32.
    Decisions of templates are those of `advice`, a tuning database's, where it is given.

    Raises UsageError for a processor nobody knows or shapes that are equal, UnsupportedError for what the target
    cannot do, ToolchainError when a tool fails.
    """
    from graphopt.targets.llvm import check_processor

    check_processor(target)
    groups = [node for graph in graphs for node in graph.nodes if needs_kernel(node)]
    kernels = compile_groups(groups, target, progress, winograd=winograd, half=half, advice=advice)
    if progress:
        progress("linking", 0, 1)
    weights = Weights()
    programs = tuple(build_program(g, kernels.name_of, kernels.workspaces, weights) for g in graphs)
    for program in programs:
        _check_memory(program, weights, target, kernels.schedules)
    check_shapes([program.signature for program in programs])
    abi = ModelAbi(
        name,
        tuple(program.signature for program in programs),
        max(program.plan.size for program in programs),
        threads or target.cores,
        len(programs[0].calls) if profile else 0,
        uses_amx=any("amx" in schedule for schedule in kernels.schedules.values()),
    )
    library = link(abi, programs, weights, kernels.object_bytes, target, toolchain or Toolchain())
    return CompiledModel(abi, library, programs, weights, kernels.schedules)


def _check_memory(program: Program, weights: Weights, target: Target, schedules: Mapping[str, str]) -> None:
    """Raise UnsupportedError when the target cannot hold weights, workspace, inputs and outputs at once."""
    tensors = sum(spec.nbytes for spec in (*program.signature.inputs, *program.signature.outputs))
    needed = len(weights.blob) + program.plan.size + tensors
    if target.memory_bytes and needed > target.memory_bytes:
        transformed = any("winograd" in schedule for schedule in schedules.values())
        fewer = "compile with --no-winograd, whose weights are smaller, " if transformed else ""
        raise UnsupportedError(
            f"a run needs {needed >> 20} MiB, {target.name} has {target.memory_bytes >> 20} MiB",
            hint=f"{fewer}give smaller input shapes, or name a larger target",
        )


def link(
    abi: ModelAbi,
    programs: Sequence[Program],
    weights: Weights,
    kernels: bytes,
    target: Target,
    toolchain: Toolchain,
) -> bytes:
    """Write the sources, compile them and link the shared library; returns its bytes."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        build = Path(folder)
        (build / "kernels.o").write_bytes(kernels)
        (build / "weights.bin").write_bytes(weights.blob or bytes(ALIGNMENT))
        (build / "weights.S").write_text(WEIGHTS_ASSEMBLY)
        (build / f"{abi.name}.h").write_text(header_text(abi))
        (build / "model.c").write_text(entry_source(abi, programs))
        c_runtime.copy_to(build)
        library = build / f"lib{abi.name}.so"
        sources = ["model.c", "parallel.c", "conversions.c", "weights.S", "kernels.o"]
        if abi.uses_amx:
            sources.append("amx.c")
        toolchain.link_shared(
            [build / name for name in sources],
            library,
            target,
            exports=list(abi.exports),
        )
        return library.read_bytes()


WEIGHTS_ASSEMBLY = f"""\
/* The model's constants: raw bytes, read-only, in the order the program names them. */
    .section .rodata.graphopt_weights, "a", %progbits
    .balign {ALIGNMENT}
    .global graphopt_weights
    .hidden graphopt_weights
graphopt_weights:
    .incbin "weights.bin"
    .section .note.GNU-stack, "", %progbits
"""
