"""From a fused graph to the files of a firmware bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Graph, Node
from graphopt.ir.fused import body_of
from graphopt.targets.abi import FIRMWARE_ALIGNMENT, ModelAbi
from graphopt.targets.bundle_files import render
from graphopt.targets.device import Target
from graphopt.targets.firmware.arenas import rooms_of
from graphopt.targets.firmware.budget import check_data, check_program
from graphopt.targets.firmware.entry import Entry
from graphopt.targets.firmware.footprint import footprint
from graphopt.targets.firmware.header import firmware_header, usage
from graphopt.targets.firmware.interface import Quantization
from graphopt.targets.firmware.kernel_comments import kernel_comments
from graphopt.targets.firmware.kernels import CKernels, internal_header, print_kernels
from graphopt.targets.firmware.layer_names import layer_names
from graphopt.targets.firmware.memory import memory_data, memory_text
from graphopt.targets.firmware.options import FirmwareOptions
from graphopt.targets.firmware.plain_c import plain
from graphopt.targets.firmware.selftest import Sample, selftest_text
from graphopt.targets.firmware.weights import WeightArrays
from graphopt.targets.kernels import Progress, lower_groups
from graphopt.targets.program import Program, build_program, needs_kernel
from graphopt.targets.weights import Weights

DEFAULTS = FirmwareOptions()


@dataclass(frozen=True)
class CompiledFirmware:
    """A model's contract, its program and its kernels, and how each kernel is scheduled."""

    abi: ModelAbi
    program: Program
    kernels: CKernels
    schedules: dict[str, str]
    options: FirmwareOptions

    def files(self, target: Target, known: Mapping[str, Quantization], sample: Sample) -> dict[str, bytes]:
        """File name -> content of everything that goes into a firmware build.

        Raises UnsupportedError where code and stack are more than the target has beside the model's data.
        """
        c_only = self.options.c_only
        name = self.abi.name
        weights = WeightArrays(name, self.program.weights)
        entry = Entry(self.abi, self.program, self.kernels, weights)
        declarations = [*weights.declarations(), "", *self.kernels.prototypes()]
        facts = {
            "MODEL": name,
            "MACRO": self.abi.macro,
            "USE": "\n".join(usage(self.abi)),
            "GCC": target.gcc,
            "GCC_FLAGS": " ".join(target.gcc_flags),
            "VERSION": metadata.version("graphopt"),
            "TARGET": target.name,
            "TARGET_DESCRIPTION": " ".join(target.description.split()),
            "ARENA_BYTES": str(self.abi.workspace_bytes),
            "WEIGHTS": "c" if c_only else "S",
            "WEIGHTS_FILES": f"`{name}_weights.c`" + ("" if c_only else f" or `{name}_weights.S`"),
            "WEIGHTS_BYTES": str(len(self.program.weights.blob)),
        }
        texts = {
            f"{name}.h": firmware_header(self.abi, known, layers=len(self.program.calls)),
            f"{name}.c": entry.text(),
            f"{name}_internal.h": internal_header(name, declarations),
            f"{name}_kernels.c": self.kernels.text(name, kernel_comments(self.program, self.schedules)),
            f"{name}_weights.c": weights.c_text(),
            f"{name}_selftest.c": selftest_text(entry, sample),
            "Makefile": render("firmware_makefile.in", facts),
            "CMakeLists.txt": render("firmware_cmakelists.txt.in", facts),
            f"{name}Config.cmake": render("firmware_config.cmake.in", facts),
            "README.md": render("firmware_readme.md.in", facts),
        }
        if c_only:
            private = (file for file in texts if file.endswith(".c") or file == f"{name}_internal.h")
            texts |= {file: plain(texts[file]) for file in private}
        encoded = {file: text.encode() for file, text in texts.items()}
        if not c_only:
            encoded[f"{name}_weights.S"] = weights.assembly().encode()
            encoded[f"{name}_weights.bin"] = bytes(self.program.weights.blob)
        told = footprint(encoded, target, name)
        if told is not None:
            check_program(self.program, told, f"{name}_run", target, self.options)
        taken = memory_data(self.abi, self.program, told, rooms_of(target, self.options))
        return {
            **encoded,
            "memory.json": (json.dumps(taken, indent=1) + "\n").encode(),
            "memory.md": memory_text(taken, name).encode(),
        }


def compile_firmware(
    graph: Graph,
    target: Target,
    name: str,
    *,
    original: Graph | None = None,
    options: FirmwareOptions = DEFAULTS,
    progress: Progress | None = None,
) -> CompiledFirmware:
    """Compile a model from its fused graph; `name` is a C identifier; `original` is the graph whose
    nodes the user knows.

    Raises UsageError for a processor nobody knows, UnsupportedError for what the target cannot do or hold.
    """
    from graphopt.targets.llvm import check_processor

    check_processor(target)
    groups = [node for node in graph.nodes if needs_kernel(node)]
    _check_precision(groups)
    lowered = lower_groups(groups, target, progress, winograd=False, prefix=f"{name}_")
    if progress:
        progress("printing kernels", 0, 1)
    kernels = print_kernels(lowered.functions, target.triple, _operands(lowered.name_of))
    weights = Weights(FIRMWARE_ALIGNMENT)
    rooms = rooms_of(target, options)
    program = build_program(
        graph,
        lowered.name_of,
        kernels.workspaces,
        weights,
        FIRMWARE_ALIGNMENT,
        overlaps=kernels.overlaps,
        tensors_in_arena=not options.keep_inputs,
        reorder=True,
        rooms=rooms,
        names=layer_names(groups, original) if original else None,
    )
    check_data(program, target, options)
    sides = ((), ()) if options.keep_inputs else (program.input_places, program.output_places)
    inputs_at, outputs_at = (tuple(place.offset for place in side) for side in sides)
    sizes = (program.plan.size, 1, 0, FIRMWARE_ALIGNMENT)
    abi = ModelAbi(name, (program.signature,), *sizes, inputs_at, outputs_at, program.plan.arenas)
    return CompiledFirmware(abi, program, kernels, lowered.schedules, options)


def _check_precision(groups: Sequence[Node]) -> None:
    """Raise UnsupportedError for what computes in float64, which no core here has in its registers."""
    for group in groups:
        for node in body_of(group).nodes:
            wide = [v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype is DType.float64]
            if wide:
                raise UnsupportedError(
                    f"'{wide[0].name}' is float64, which microcontrollers do not compute in",
                    where=f"node '{group.origin.known_as(group.name)}' ({node.op_type})",
                    hint="export the model in float32, or cast what needs it",
                )


def _operands(name_of: Mapping[Node, str]) -> dict[str, set[int]]:
    """The numbers of each kernel's parameters that are computed, or the caller's."""
    found: dict[str, set[int]] = {}
    for node, name in name_of.items():
        read = [value for value in node.inputs if value is not None]
        found.setdefault(name, set()).update(n for n, v in enumerate(read) if v.constant is None)
    return found
