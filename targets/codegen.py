"""From scheduled TensorIR to machine code with a plain C calling convention.

TVM's packed convention costs kilobytes of argument checking per kernel and needs TVM's runtime on the
device. Here a kernel is

    int32_t kernel(void *input..., void *output..., void *workspace...);

Temporaries too large for the stack become workspace parameters, so that the caller's memory plan places them.
Parallel loops call through the pointer `__TVMBackendParallelLaunch`, which `c_runtime/parallel.c` defines.
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType

from graphopt.errors import IRError
from graphopt.targets.device import Target
from graphopt.targets.extrema import lower_extrema
from graphopt.targets.fixed_point import lower_fixed_point
from graphopt.targets.requantize import C_TEXT, lower_requantize
from graphopt.targets.transcendental import approximate, vectorise

LARGEST_STACK_BUFFER = 2048
"""Bytes; larger temporaries become workspace parameters."""

LARGEST_FIRMWARE_BUFFER = 256
"""The same where the stack is a part of a microcontroller's memory."""

LARGEST_TASK_BUFFER = 65536
"""Bytes; a temporary inside a parallel loop belongs to one task and stays on its stack up to this size."""


@dataclass(frozen=True)
class KernelObject:
    """An ELF object file, and the bytes of each trailing workspace parameter by kernel."""

    object_bytes: bytes
    workspaces: dict[str, tuple[int, ...]]


def compile_kernels(functions: Mapping[str, tirx.PrimFunc], target: Target) -> KernelObject:
    """Compile scheduled functions to one object file for `target`."""
    machine = target.tvm()
    module, workspaces = lower(functions, machine)
    if not functions:
        return KernelObject(b"", {})
    library = _codegen_build(module, machine)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "kernels.o"
        library.write_to_file(str(path), "o")
        return KernelObject(path.read_bytes(), workspaces)


def lower(
    functions: Mapping[str, tirx.PrimFunc], machine: tvm.target.Target
) -> tuple[tvm.IRModule, dict[str, tuple[int, ...]]]:
    """Lower to what TVM's code generators take; returns the module and each kernel's workspaces in bytes."""
    return _lower(functions, machine, str(machine.attrs.get("mtriple", "")))


def lower_for_c_text(
    functions: Mapping[str, tirx.PrimFunc], triple: str
) -> tuple[tvm.IRModule, dict[str, tuple[int, ...]]]:
    """Lower to what is printed as C for firmware: without threads a kernel is a `void` function, and few temporaries
    are on its stack. `triple` is the core's: some arithmetic is written in what that has instructions for."""
    serial = {name: f.with_body(_without_threads(f.body)) for name, f in functions.items()}
    machine = tvm.target.Target({"kind": "c"})
    return _lower(serial, machine, f"{C_TEXT}{triple}", LARGEST_FIRMWARE_BUFFER, threads=False)


def _lower(
    functions: Mapping[str, tirx.PrimFunc],
    machine: tvm.target.Target,
    triple: str,
    largest: int = LARGEST_STACK_BUFFER,
    *,
    threads: bool = True,
) -> tuple[tvm.IRModule, dict[str, tuple[int, ...]]]:
    named = {name: function.without_attr("global_symbol") for name, function in functions.items()}
    module = tirx.transform.BindTarget(machine.with_host(machine))(tvm.IRModule(named))
    vectorise()
    with tvm.transform.PassContext(opt_level=3):
        module = _lowering_passes()(module)
    unpacked, workspaces = {}, {}
    for variable, function in module.functions.items():
        name = variable.name_hint
        computed = function.with_body(approximate(function.body))
        computed = computed.with_body(lower_requantize(computed.body, triple))
        computed = computed.with_body(lower_fixed_point(computed.body, triple))
        is_aarch64 = triple.startswith("aarch64")
        computed = computed.with_body(lower_extrema(computed.body, instructions=is_aarch64))
        unpacked[variable], workspaces[name] = _raw_pointers(computed, name, largest, threads)
    module = tirx.transform.BF16StorageLegalize()(tvm.IRModule(unpacked))
    return tirx.transform.LowerIntrin()(module), workspaces


def _without_threads(body: tirx.Stmt) -> tirx.Stmt:
    def serial(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    return tvm_ffi.structural_map(body, (tirx.For, serial))


def _lowering_passes() -> tvm.transform.Sequential:
    """TVM's own CPU lowering, without the GPU's passes and without the packed calling convention."""
    scheduled, flat = s_tir.transform, tirx.transform
    return tvm.ir.transform.Sequential(
        [
            scheduled.CanonicalizeLoop(),
            scheduled.LowerInitBlock(),
            scheduled.PlanAndUpdateBufferAllocationLocation(),
            scheduled.ConvertBlocksToOpaque(),
            scheduled.CompactBufferAllocation(),
            scheduled.LowerMatchBuffer(),
            scheduled.StmtSimplify(),
            scheduled.AnnotateIrregularLoop(),
            scheduled.LowerOpaqueBlock(),
            flat.FlattenBuffer(),
            flat.BF16ComputeLegalize(),
            flat.NarrowDataType(32),
            scheduled.LoopPartition(),
            flat.VectorizeLoop(True),
            flat.StorageRewrite(),
            scheduled.HoistIfThenElse(),
            flat.UnrollLoop(),
            scheduled.RenormalizeSplitPattern(),
            flat.StmtSimplify(),
            flat.RemoveNoOp(),
            scheduled.RewriteUnsafeSelect(),
            flat.CommonSubexprElim(),
            flat.FP8ComputeLegalize(),
            flat.VerifyMemory(),
        ]
    )


def _codegen_build(module: tvm.IRModule, machine: tvm.target.Target) -> tvm.runtime.Module:
    # `tvm.tirx.build` names a function; the module of that name is found by its path only.
    return importlib.import_module("tvm.tirx.build").codegen_build(module, machine)


def _raw_pointers(
    function: tirx.PrimFunc, name: str, largest: int, threads: bool
) -> tuple[tirx.PrimFunc, tuple[int, ...]]:
    """Buffers become pointers; temporaries of more than `largest` bytes become further pointers, whose bytes are
    returned. Where there are `threads`, the function tells whether it could start them."""
    parameters: list[tirx.Var] = []
    declarations: list[tirx.Stmt] = []
    workspaces: list[int] = []
    for parameter in function.params:
        pointer = tirx.Var(f"{parameter.name}_p", PointerType(parameter.ty.dtype))
        parameters.append(pointer)
        declarations.append(tirx.DeclBuffer(parameter, data=pointer))
    private = _inside_parallel(function.body)

    def hoist(allocation: tirx.AllocBuffer) -> tirx.Stmt:
        size = _nbytes(allocation.buffer)
        if allocation.buffer in private:
            if size > LARGEST_TASK_BUFFER:
                raise IRError(
                    f"each task of a parallel loop allocates {size} bytes", where=f"kernel '{name}'"
                )
            return allocation
        if size <= largest:
            return allocation
        pointer = tirx.Var(f"{allocation.buffer.name}_ws", PointerType(allocation.buffer.ty.dtype))
        parameters.append(pointer)
        workspaces.append(size)
        return tirx.DeclBuffer(allocation.buffer, data=pointer)

    body = tvm_ffi.structural_map(function.body, (tirx.AllocBuffer, hoist))
    raw = tirx.PrimFunc(
        parameters,
        tirx.SeqStmt([*declarations, body]),
        ret_type=PrimType("int32") if threads else function.ret_type,
        attrs=function.attrs,
    )
    return raw.with_attr("global_symbol", name), tuple(workspaces)


def _inside_parallel(body: tirx.Stmt) -> set[tirx.Var]:
    """Buffers allocated inside a parallel loop: each task needs its own."""
    found: set[tirx.Var] = set()

    def visit(loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.PARALLEL:
            tvm_ffi.structural_walk(loop.body, (tirx.AllocBuffer, lambda a: found.add(a.buffer)))

    tvm_ffi.structural_walk(body, (tirx.For, visit))
    return found


def _nbytes(buffer: tirx.Var) -> int:
    element = tvm.DataType(str(buffer.ty.dtype))
    return math.prod(int(extent) for extent in buffer.ty.shape) * element.lanes * ((element.bits + 7) // 8)
