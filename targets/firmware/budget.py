"""Does a model fit: the board's memory, or the bytes that its user leaves for it?

What does not fit is told with what would have to give: the layers that are over the limit, the bytes of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.errors import UnsupportedError
from graphopt.ir import DType
from graphopt.ir.fused import body_of, is_fused
from graphopt.targets.arena import is_too_large, storage_bytes
from graphopt.targets.device import Target
from graphopt.targets.firmware.arenas import rooms_of
from graphopt.targets.firmware.footprint import Footprint
from graphopt.targets.firmware.layer_names import shortened
from graphopt.targets.firmware.memory import layer_bytes
from graphopt.targets.firmware.options import FirmwareOptions
from graphopt.targets.program import Call, Program
from graphopt.targets.several_arenas import Room

MOST_NAMED = 3
"""Layers that a message names."""

LARGEST_TABLE = 256
"""Elements of constants that are no weights."""


@dataclass(frozen=True)
class Limit:
    """So many bytes, and who says so."""

    bytes: int
    source: str


class OverBudget(UnsupportedError):
    """The `program` takes more than there is, of RAM where `of_ram`: `beside` are bytes of it besides the arena."""

    def __init__(self, what: str, *, hint: str, program: Program, of_ram: bool, beside: int) -> None:
        super().__init__(what, hint=hint)
        self.program = program
        self.of_ram = of_ram
        self.beside = beside


def limits(target: Target, options: FirmwareOptions, *, several: bool = False) -> dict[str, Limit]:
    """Of "ram" and "flash": the option's where there is one, unless the board has less. With `several` arenas all
    regions of RAM count, otherwise the largest."""
    found = {}
    for kind, given in (("ram", options.ram), ("flash", options.flash)):
        has = target.largest_of(kind) if kind == "ram" and not several else target.bytes_of(kind)
        if has:
            found[kind] = Limit(has, f"{target.name} has {has:,}{_where(target, kind, several)}")
        if given is not None and (not has or given < has):
            found[kind] = Limit(given, f"--{kind} allows {given:,}")
    return found


def _where(target: Target, kind: str, several: bool) -> str:
    regions = [region for region in target.regions if region.kind == kind]
    if kind == "flash" or len(regions) == 1:
        return ""
    listed = ", ".join(f"{region.name} {region.bytes:,}" for region in regions)
    return f" in {listed}" if several else f" in its largest region (of {listed})"


def check_data(program: Program, target: Target, options: FirmwareOptions) -> None:
    """Raise OverBudget where constants, or what a run needs at once, are too large without code and stack."""
    _check(program, 0, 0, "without code and stack", target, options)


def check_program(
    program: Program, taken: Footprint, entry: str, target: Target, options: FirmwareOptions
) -> None:
    """The same with the code and the stack that the compiler tells of, the C library's aside."""
    _check(
        program,
        sum(taken.code.values()),
        taken.stack_bound(entry),
        "with code and stack",
        target,
        options,
    )


def _check(
    program: Program, code: int, stack: int, how: str, target: Target, options: FirmwareOptions
) -> None:
    needs = {
        "flash": len(program.weights.blob) + code,
        "ram": program.plan.size + passed_bytes(program) + stack,
    }
    several = bool(program.plan.arenas)
    allowed = limits(target, options, several=several)
    rooms = rooms_of(target, options)
    said, ways = [], []
    for kind, needed in needs.items():
        if kind in allowed and needed > allowed[kind].bytes:
            reason, more = (
                _flash(program) if kind == "flash" else _ram(program, stack, allowed[kind], options)
            )
            spread = is_too_large(program.plan, rooms) and kind == "ram"
            beside = f", and buffers spread over {_names(rooms)} do not fit either" if spread else ""
            said.append(f"it needs {needed:,} bytes of {kind} {how}, {allowed[kind].source}{beside}{reason}")
            ways += [way for way in more if way not in ways]
    left = {room.name: room.bytes - dict(program.plan.arenas).get(room.name, 0) for room in rooms}
    if several and not said and stack > max(left.values()):
        listed = ", ".join(f"{name} {size:,}" for name, size in left.items())
        said.append(f"it needs {stack:,} bytes of ram for the stack in one region, its arenas leave {listed}")
        ways.append("name a larger board")
    if said:
        of_ram = any(" bytes of ram " in text for text in said)
        others = needs["ram"] - program.plan.size
        hint = ", or ".join(ways)
        raise OverBudget("; ".join(said), hint=hint, program=program, of_ram=of_ram, beside=others)


def _names(rooms: Sequence[Room]) -> str:
    return ", ".join(room.name for room in rooms)


def passed_bytes(program: Program) -> int:
    """Of inputs and outputs that are the caller's buffers."""
    tensors = [
        *zip(program.inputs, program.input_places, strict=True),
        *zip(program.outputs, program.output_places, strict=True),
    ]
    return sum(spec.nbytes for spec, place in tensors if place.region != "arena")


def _ram(program: Program, stack: int, limit: Limit, options: FirmwareOptions) -> tuple[str, list[str]]:
    """What is alive in the layers that are over the limit, and ways out."""
    beside = passed_bytes(program) + stack
    layers = sorted(
        ((layer_bytes(program, number), call) for number, call in enumerate(program.calls)),
        key=lambda one: -one[0],
    )
    over = [(taken, call) for taken, call in layers if taken + beside > limit.bytes] or layers[:1]
    named = "; ".join(_layer(taken, call) for taken, call in over[:MOST_NAMED])
    more = f"; {len(over) - MOST_NAMED} more" if len(over) > MOST_NAMED else ""
    ways = ["compile without --keep-inputs"] if options.keep_inputs else []
    ways += ["compile without --no-patch"] if options.patch is False else []
    ways += [
        "give smaller input shapes",
        "quantise the model" if _is_float(program) else "name a larger board",
        *_smaller_inputs(program),
    ]
    return f", most of it in {named}{more}" if layers else "", ways


def _smaller_inputs(program: Program) -> list[str]:
    """A quantised model may read bytes where it is given floats."""
    floats = sum(spec.nbytes for spec in program.inputs if spec.dtype is DType.float32)
    if _is_float(program) or not floats:
        return []
    return [f"quantise with --integer-io, which takes {floats - floats // 4:,} bytes off the inputs"]


def _layer(taken: int, call: Call) -> str:
    """`'Conv_2' (36,880: reads 18,432, writes 36,864)`."""
    read = sum(storage_bytes(v) for v in call.node.inputs if v is not None and v.constant is None)
    written = sum(storage_bytes(value) for value in call.node.outputs)
    scratch = f", scratch {sum(call.workspaces):,}" if call.workspaces else ""
    return f"'{shortened(call.known_as)}' ({taken:,}: reads {read:,}, writes {written:,}{scratch})"


def _flash(program: Program) -> tuple[str, list[str]]:
    """How much of it are constants, and ways out."""
    arrays = [array for array in program.weights.arrays.values() if array.size > LARGEST_TABLE]
    floats = sum(array.nbytes - array.size for array in arrays if array.dtype.kind == "f")
    halves = sum(size // 2 for size in _whole_weights(program).values())
    ways = ["name a larger board"]
    if floats > halves:
        ways.insert(0, f"quantise the model, whose weights get {floats:,} bytes less as int8")
    elif halves:
        ways.insert(0, f"quantise it with the scheme int4, whose weights take up to {halves:,} bytes less")
    return f", {len(program.weights.blob):,} of it constants", ways


def _whole_weights(program: Program) -> dict[int, int]:
    """Bytes of each array of weights that are bytes: what is packed in fewer bits is smaller than it was."""
    found = {}
    for call in filter(lambda call: is_fused(call.node), program.calls):
        for declared, value in zip(body_of(call.node).inputs, call.node.inputs, strict=True):
            array = None if value is None else value.constant
            if array is None or array.dtype.name not in ("int8", "uint8"):
                continue
            if array.size > LARGEST_TABLE and array.size >= declared.size:
                found[id(array)] = array.nbytes
    return found


def _is_float(program: Program) -> bool:
    made = [value for call in program.calls for value in call.node.outputs]
    return sum(v.size for v in made if v.dtype.is_float) > sum(v.size for v in made if not v.dtype.is_float)
