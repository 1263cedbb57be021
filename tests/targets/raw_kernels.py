"""Running kernels alone, without a model around them, on this machine or under QEMU: one program calls them all.

results = run_kernels({"sum": Call(function, (x, y), result_like)}, target, folder)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tvm import tirx

from graphopt.targets import c_runtime, emulator
from graphopt.targets.codegen import compile_kernels
from graphopt.targets.device import Target
from graphopt.targets.toolchain import Toolchain

PROGRAM = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
typedef struct {{ void *sync_handle; int num_task; }} Launch;
typedef int (*Task)(int task_id, Launch *launch, void *closure);
static int launch(Task task, void *closure, int num_task) {{
  Launch two = {{0, 2}};
  (void)num_task;
  return task(1, &two, closure) | task(0, &two, closure);
}}
int (*__TVMBackendParallelLaunch)(Task, void *, int) = launch;
static void *bytes(FILE *file, size_t count) {{
  size_t page = 65536, whole = (count + page - 1) / page * page;
  char *start = mmap(0, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mprotect(start + whole, page, PROT_NONE)) exit(3);
  char *data = start + whole - count;
  memset(data, 0x5A, count);
  if (file && fread(data, 1, count, file) != count) exit(2);
  return data;
}}
{declarations}
int main(void) {{
  FILE *in = fopen("operands.bin", "rb"), *out = fopen("results.bin", "wb");
{calls}
  return fclose(out);
}}
"""

CALL = """  {{
    void *a[] = {{ {operands} }}, *y = bytes(0, {size}), *w[] = {{ {workspaces} 0 }};
    (void)w;
    if ({name}({arguments})) return 1;
    fwrite(y, 1, {size}, out);
  }}"""


@dataclass(frozen=True)
class Call:
    """A kernel, its operands, and an array of the type and shape of its only result."""

    function: tirx.PrimFunc
    operands: Sequence[np.ndarray]
    result: np.ndarray


def run_kernels(calls: Mapping[str, Call], target: Target, folder: Path) -> dict[str, np.ndarray]:
    """The result of each call. Behind every operand, result and workspace lies a page that must not be touched."""
    compiled = compile_kernels({name: call.function for name, call in calls.items()}, target)
    (folder / "kernels.o").write_bytes(compiled.object_bytes)
    (folder / "main.c").write_text(_program(calls, compiled.workspaces))
    (folder / "operands.bin").write_bytes(
        b"".join(np.ascontiguousarray(a).tobytes() for call in calls.values() for a in call.operands)
    )
    c_runtime.copy_to(folder)
    amx = [folder / "amx.c"] if target.uses_amx else []
    Toolchain().link_executable([folder / "main.c", *amx, folder / "kernels.o"], folder / "main", target)
    emulator.run(target, ["./main"], folder=folder)
    data, results = (folder / "results.bin").read_bytes(), {}
    for name, call in calls.items():
        raw, data = data[: call.result.nbytes], data[call.result.nbytes :]
        results[name] = np.frombuffer(raw, call.result.dtype).reshape(call.result.shape)
    return results


def _program(calls: Mapping[str, Call], workspaces: Mapping[str, tuple[int, ...]]) -> str:
    declarations, bodies = [], []
    for name, call in calls.items():
        spaces = workspaces[name]
        arguments = [f"a[{n}]" for n in range(len(call.operands))]
        arguments += ["y", *(f"w[{n}]" for n in range(len(spaces)))]
        declarations.append(f"int {name}({', '.join(['void *'] * len(arguments))});")
        bodies.append(
            CALL.format(
                name=name,
                size=call.result.nbytes,
                operands=", ".join(f"bytes(in, {a.nbytes})" for a in call.operands),
                workspaces="".join(f"bytes(0, {size}), " for size in spaces),
                arguments=", ".join(arguments),
            )
        )
    return PROGRAM.format(declarations="\n".join(declarations), calls="\n".join(bodies))
