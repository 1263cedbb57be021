"""The memory that a firmware model takes, in `memory.json` and `memory.md`: flash, RAM, and which layer needs what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.targets.abi import FIRMWARE_ALIGNMENT, ModelAbi
from graphopt.targets.firmware.footprint import Footprint
from graphopt.targets.firmware.layer_names import shortened
from graphopt.targets.plan_memory import Plan, aligned
from graphopt.targets.program import Program
from graphopt.targets.several_arenas import Room


def memory_data(
    abi: ModelAbi, program: Program, taken: Footprint | None, rooms: Sequence[Room] = ()
) -> dict[str, Any]:
    """What `memory.json` holds; sizes are bytes. Of code and stack only where the compiler told. Where the board has
    several regions of RAM, `rooms`, what each holds of the arena."""
    arena = {"arena": program.plan.size, "arena_lower_bound": program.plan.lower_bound}
    tensors = {
        "inputs": sum(spec.nbytes for spec in abi.inputs),
        "outputs": sum(spec.nbytes for spec in abi.outputs),
    }
    if not abi.passes_tensors:
        tensors = {f"{side}_in_arena": size for side, size in tensors.items()}
    flash: dict[str, int] = {"weights": len(program.weights.blob)}
    ram = {**arena, **tensors}
    if taken is not None:
        flash["code"] = sum(taken.code.values())
        ram["stack_bound"] = taken.stack_bound(f"{abi.name}_run")
    used = rooms_used(program.plan, rooms)
    return {
        "flash": flash,
        "ram": ram,
        **({"regions": [_region(program, room) for room in used]} if used else {}),
        "compiler": taken.compiler if taken else None,
        "layers": _layers(abi, program, taken),
    }


def rooms_used(plan: Plan, rooms: Sequence[Room]) -> list[tuple[Room, int]]:
    """The rooms that hold the arenas, and how many bytes; the first that holds a single one."""
    if plan.arenas:
        sizes = dict(plan.arenas)
        return [(room, sizes[room.name]) for room in rooms if room.name in sizes]
    return [(room, plan.size) for room in rooms if plan.size <= room.bytes][:1]


def _region(program: Program, used: tuple[Room, int]) -> dict[str, Any]:
    room, size = used
    return {"region": room.name, "arena": size, "region_bytes": room.bytes}


def _layers(abi: ModelAbi, program: Program, taken: Footprint | None) -> list[dict[str, Any]]:
    found = []
    for number, call in enumerate(program.calls):
        layer: dict[str, Any] = {
            "layer": call.known_as,
            "kernel": call.kernel,
            "arena": layer_bytes(program, number, abi.alignment),
            "workspace": sum(call.workspaces),
        }
        if taken is not None:
            layer |= {"code": taken.code[call.kernel], "stack": taken.stack[call.kernel]}
        found.append(layer)
    return found


def layer_bytes(program: Program, number: int, alignment: int = FIRMWARE_ALIGNMENT) -> int:
    """Bytes of the arena that are in use while call `number` runs; what buffers share counts once."""
    plan = program.plan
    alive = [buffer for buffer in plan.buffers if buffer.first <= number <= buffer.last]
    end = found = 0
    for start, size in sorted((plan.offsets[b.name], aligned(b.size, alignment)) for b in alive):
        found += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return found


def memory_text(data: dict[str, Any], name: str) -> str:
    """`memory.md`."""
    lines = [f"# Memory of {name}", "", "| flash | bytes |", "|---|---:|"]
    lines += [f"| {key} | {size} |" for key, size in data["flash"].items()]
    lines += ["", "| RAM | bytes |", "|---|---:|"]
    lines += [f"| {key.replace('_', ' ')} | {size} |" for key, size in data["ram"].items()]
    if "regions" in data:
        lines += ["", "| region | its arena | all of it |", "|---|---:|---:|"]
        lines += [f"| {r['region']} | {r['arena']} | {r['region_bytes']} |" for r in data["regions"]]
    told = data["compiler"]
    lines += [
        "",
        f"Code and stack as {told} tells; the C library's own functions aside." if told else NOT_TOLD,
        "",
    ]
    columns = ["layer", "arena", "workspace", *(["code", "stack"] if told else [])]
    lines += [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    rows = ([cell(layer["layer"]), *(str(layer[c]) for c in columns[1:])] for layer in data["layers"])
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, ""])


def cell(name: str) -> str:
    """A layer's name in a table of Markdown."""
    return " ".join(shortened(name).split()).replace("|", "\\|")


NOT_TOLD = "Code and stack are not known: the compiler was not installed where this was written."
