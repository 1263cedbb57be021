"""A batch of candidates as one static program for the target, each with the operands it reads.

folder/measure   operands.0 operands.1 ...   (what it writes: results.0 ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from graphopt.targets import c_runtime
from graphopt.targets.device import Target
from graphopt.targets.toolchain import Toolchain
from graphopt.targets.tuning import measuring

PROGRAM = "measure"

HEADER = """\
#include <stddef.h>
typedef struct {
    int (*call)(void **buffers);
    const size_t *sizes; /* bytes of inputs, outputs, workspaces */
    int inputs, outputs, workspaces;
} Candidate;
extern const Candidate candidates[];
extern const int candidate_count;
"""


@dataclass(frozen=True)
class BuiltCandidate:
    """One kernel: its object file's name in the folder, its function, and bytes of each buffer it takes."""

    object_name: str
    function: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    workspaces: tuple[int, ...]


def operands_name(number: int) -> str:
    """The file of a candidate's inputs, one after the other."""
    return f"operands.{number}"


def results_name(number: int) -> str:
    """The file of a candidate's outputs."""
    return f"results.{number}"


def link_program(candidates: Sequence[BuiltCandidate], folder: Path, target: Target) -> Path:
    """Link the candidates' objects, which are in `folder`, with what measures them. Raises ToolchainError."""
    (folder / "candidates.h").write_text(HEADER)
    (folder / "candidates.c").write_text(_table(candidates))
    measure = resources.files(measuring).joinpath("measure.c").read_bytes()
    (folder / "measure.c").write_bytes(measure)
    c_runtime.copy_to(folder)
    sources = [
        "measure.c",
        "candidates.c",
        "parallel.c",
        "conversions.c",
        *(["amx.c"] if target.uses_amx else []),
    ]
    own = [folder / name for name in sources]
    objects = [folder / candidate.object_name for candidate in candidates]
    Toolchain().link_static([*own, *objects], folder / PROGRAM, target)
    return folder / PROGRAM


def _table(candidates: Sequence[BuiltCandidate]) -> str:
    lines, entries = ['#include "candidates.h"'], []
    for number, candidate in enumerate(candidates):
        sizes = [*candidate.inputs, *candidate.outputs, *candidate.workspaces]
        passed = ", ".join(f"b[{n}]" for n in range(len(sizes)))
        lines += [
            f"int {candidate.function}({', '.join(['void *'] * len(sizes))});",
            f"static int call_{number}(void **b) {{ return {candidate.function}({passed}); }}",
            f"static const size_t sizes_{number}[] = {{ {', '.join(map(str, sizes))} }};",
        ]
        counts = f"{len(candidate.inputs)}, {len(candidate.outputs)}, {len(candidate.workspaces)}"
        entries.append(f"    {{ call_{number}, sizes_{number}, {counts} }},")
    table = ["const Candidate candidates[] = {", *entries, "};"]
    return "\n".join([*lines, *table, f"const int candidate_count = {len(candidates)};", ""])
