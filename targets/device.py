"""Targets: devices as data.

A target is a TOML file in `targets/catalog`, or a user's own, which may start from one of ours with
`base = "rpi4"` and override what differs. `host` is this machine, detected.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import UsageError, did_you_mean
from graphopt.targets import host
from graphopt.targets.fields import check_fields, typed
from graphopt.targets.memory_map import Region, regions_of

if TYPE_CHECKING:
    import tvm

CATALOG = "graphopt.targets.catalog"

HELIUM = "thumbv8.1m.main"
"""How triples of cores with Arm's vector extension for microcontrollers begin."""

WORD = 32
"""Bits of what a core without vectors computes with."""

NO_GATHERS = "-enable-arm-maskedgatscat=0"
"""LLVM 22 miscompiles loops of Helium's gathers and scatters: the loop never ends, or reads beyond its data."""


@dataclass(frozen=True)
class Target:
    """One device.

    `cpu` and `features` are LLVM's names; `triple` is LLVM's, `zig` the linker's with the glibc floor.
    `cores` is the default thread count. `vector_bits` and `vector_registers` describe the SIMD unit;
    `fma_per_cycle` and `loads_per_cycle` count whole vectors, `fma_latency` cycles; `multiplies_by_lane` tells of
    a multiply-add that takes a factor from one lane of a register, `memory_operands` of arithmetic that takes one
    straight from memory. `integer_products` are the types of activations and weights, such as "uint8 x int8", whose
    products kernels sum as integers; `requantization` is "float", or "fixed" for sums that become bytes without floats.
    `layout` says how images are kept: in "blocks" of channels, one vector wide, or "channels-last".
    Caches are bytes per core (`l1_bytes`: data); `memory_bytes_per_cycle` is what
    one core reads of a long stream.
    `clock_mhz` is nominal. `emulator` names a qemu-user program, `emulator_cpu` its CPU, `sysroot` the folder
    of the C library it runs against.

    Firmware is code for a machine without an operating system, a triple of `none`. The GNU compiler that builds it has
    programs that begin with `gcc`, told the core by `gcc_flags`. `regions` is the memory of a board; a core has none.
    It is emulated on `emulator_board`, a target of the catalog, which QEMU calls `emulator_machine`.
    """

    name: str
    description: str
    family: str
    triple: str
    zig: str
    cpu: str
    features: tuple[str, ...] = ()
    float_abi: str = ""
    cores: int = 1
    vector_bits: int = 128
    vector_registers: int = 16
    in_order: bool = False
    fma_per_cycle: int = 1
    fma_latency: int = 4
    loads_per_cycle: int = 1
    multiplies_by_lane: bool = False
    memory_operands: bool = False
    integer_products: tuple[str, ...] = ()
    requantization: str = "float"
    layout: str = "blocks"
    l1_bytes: int = 32768
    l2_bytes: int = 262144
    memory_bytes_per_cycle: int = 2
    clock_mhz: int = 0
    ram_mb: int = 0
    emulator: str = ""
    emulator_cpu: str = ""
    sysroot: str = ""
    gcc: str = ""
    gcc_flags: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    emulator_board: str = ""
    emulator_machine: str = ""

    @property
    def is_firmware(self) -> bool:
        """There is no operating system: what is made are sources and objects for somebody's firmware."""
        return "none" in self.triple.split("-")

    def bytes_of(self, kind: str) -> int:
        """The "ram" or the "flash" of all regions; 0 where nobody tells."""
        return sum(region.bytes for region in self.regions if region.kind == kind)

    def largest_of(self, kind: str) -> int:
        """Bytes of the largest region of that kind; 0 where nobody tells."""
        return max((region.bytes for region in self.regions if region.kind == kind), default=0)

    def shortages(self, *, flash: int, ram: int) -> list[str]:
        """Which of these bytes of constants, and of what a run needs at once, the regions cannot hold; none without.

        Constants are many arrays, which may lie in several regions, and buffers may be spread over several arenas: what
        is more than all regions together is told.
        """
        if not self.regions:
            return []
        has = {"flash": (flash, self.bytes_of("flash")), "ram": (ram, self.bytes_of("ram"))}
        return [
            f"it needs {needed:,} bytes of {kind} without code and stack, {self.name} has {there:,}"
            for kind, (needed, there) in has.items()
            if needed > there
        ]

    @property
    def glibc(self) -> str:
        """The oldest glibc the library runs with, such as `2.31`."""
        return ".".join(self.zig.split(".")[1:]) if "." in self.zig else ""

    @property
    def is_native(self) -> bool:
        """A library for this target runs on this machine without emulation."""
        if self.triple.split("-")[0] != platform.machine():
            return False
        return self._x86_level <= host.x86_level() and set(self.features) - {"neon"} <= host.features()

    @property
    def computes_in_half(self) -> bool:
        """It has arithmetic on vectors of float16, not only conversions."""
        return not host.HALF_ARITHMETIC.isdisjoint(self.features)

    @property
    def uses_amx(self) -> bool:
        """Kernels may use the registers for which Linux wants to be asked."""
        return "amx-int8" in self.features

    @property
    def is_fixed_point(self) -> bool:
        """Its quantised models compute in integers alone, as far as they can."""
        return self.requantization == "fixed"

    @property
    def is_channels_last(self) -> bool:
        """An image is one block of all its channels: kernels go by single channels, or by words of bytes."""
        return self.layout == "channels-last"

    @property
    def writes_vectors(self) -> bool:
        """Schedules write vectors out. Firmware is C text without any, and a core without them has none to write."""
        return self.vector_bits > WORD and not self.is_firmware

    @property
    def multiplies_signed(self) -> bool:
        """Its dot products are of int8 with int8 (ARM); elsewhere (x86) one factor is uint8."""
        return self.is_firmware or self.triple.startswith(("aarch64", "arm"))

    @property
    def cpu_flags(self) -> tuple[str, ...]:
        """What /proc/cpuinfo lists on every machine that can run the library, by the kernel's names."""
        names = [n for level, added in host.X86_LEVELS.items() if level <= self._x86_level for n in added]
        names += [f for f in self.features if f != "neon"]
        kernel_names = {llvm: linux for linux, llvm in host.LINUX_NAMES.items()}
        return tuple(dict.fromkeys(kernel_names.get(name, name) for name in names))

    @property
    def _x86_level(self) -> int:
        """The micro-architecture level that `cpu` names; 0 for any other processor."""
        return int(self.cpu[-1]) if self.cpu.startswith("x86-64-v") else 0

    @property
    def memory_bytes(self) -> int:
        """The memory a run can have; 0 where nobody knows it."""
        return self.ram_mb << 20

    def llvm_options(self) -> dict[str, Any]:
        """The target as TVM's dictionary."""
        options: dict[str, Any] = {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.cpu,
            "num-cores": self.cores,
        }
        if self.features:
            options["mattr"] = [f"+{feature}" for feature in self.features]
        if self.triple.startswith("riscv32"):
            options["mabi"] = "ilp32f" if self.float_abi == "hard" else "ilp32"
        elif self.float_abi:
            options["mfloat-abi"] = self.float_abi
        if self.triple.startswith(HELIUM):
            options["cl-opt"] = [NO_GATHERS]
        return options

    def tvm(self) -> tvm.target.Target:
        """The target as TVM's. Raises UsageError for a processor or a feature that LLVM does not know."""
        import tvm

        from graphopt.targets.llvm import check_processor

        check_processor(self)
        return tvm.target.Target(self.llvm_options())


class Host(Target):
    """This machine. Its memory is asked for when it is needed: no bundle tells of it."""

    @property
    def memory_bytes(self) -> int:
        return host.memory_bytes()


def list_targets() -> list[str]:
    """Names a user may give, `host` first."""
    files = resources.files(CATALOG).iterdir()
    return ["host", *sorted(f.name[:-5] for f in files if f.name.endswith(".toml"))]


def load_target(name: str) -> Target:
    """A target by its name in the catalog, or by the path of a TOML file.

    Raises UsageError for an unknown name, an unreadable file, an unknown key, a value of the wrong type.
    """
    if name == "host":
        return detect_host()
    if _is_file(name):
        return _from_fields(_read_file(Path(name)), where=name, default_name=Path(name).stem)
    if name not in list_targets():
        hint = did_you_mean(name, list_targets(), f"one of {', '.join(list_targets())}, or a .toml file")
        raise UsageError(f"there is no target '{name}'", hint=hint)
    text = resources.files(CATALOG).joinpath(f"{name}.toml").read_text()
    return _from_fields(tomllib.loads(text), where=f"{name}.toml", default_name=name)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        hint = "check the path; `graphopt targets` lists the names that need no file"
        raise UsageError(f"cannot read the target: {reason}", where=str(path), hint=hint) from None
    except tomllib.TOMLDecodeError as error:
        hint = 'every line is KEY = VALUE, such as base = "rpi4" or cores = 2'
        raise UsageError(f"not valid TOML: {error}", where=str(path), hint=hint) from None


def _from_fields(fields: dict[str, Any], where: str, default_name: str, seen: tuple[str, ...] = ()) -> Target:
    values: dict[str, Any] = {}
    if "base" in fields:
        fields = dict(fields)
        values = _fields(_base(typed("base", fields.pop("base"), "str", where), where, seen))
    values["name"] = default_name
    known = {f.name: f for f in dataclasses.fields(Target)}
    for key, value in fields.items():
        if key not in known:
            hint = did_you_mean(key, known, f"keys: base, {', '.join(known)}")
            raise UsageError(f"unknown key '{key}'", where=where, hint=hint)
        of_regions = key == "regions"
        values[key] = (
            regions_of(value, where) if of_regions else typed(key, value, str(known[key].type), where)
        )
    missing = [k for k, f in known.items() if f.default is dataclasses.MISSING and k not in values]
    if missing:
        hint = 'give them, or start from a known target with base = "rpi4"'
        raise UsageError(f"missing keys {', '.join(missing)}", where=where, hint=hint)
    check_fields(values, where)
    return Target(**values)


def _fields(target: Target) -> dict[str, Any]:
    return {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}


def _base(name: str, where: str, seen: tuple[str, ...]) -> Target:
    """The target that one starts from. Raises UsageError for a chain that comes back to where it was."""
    try:
        if not _is_file(name):
            return load_target(name)
        if name in (*seen, where):
            raise UsageError("it is based on itself", hint="start from a target of the catalog")
        return _from_fields(_read_file(Path(name)), name, Path(name).stem, (*seen, where))
    except UsageError as error:
        inner = f"{error.where}: {error.what}" if error.where else error.what
        raise UsageError(f"base = '{name}': {inner}", where=where, hint=error.hint) from None


def _is_file(name: str) -> bool:
    return name.endswith(".toml") or os.sep in name


def detect_host() -> Host:
    """This machine: instruction sets and caches as the kernel reports them."""
    cores = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {
        "name": "host",
        "description": host.cpu_name(),
        "cores": cores,
        "l1_bytes": host.cache_bytes(1) or 32768,
        "l2_bytes": host.cache_bytes(2) or 262144,
    }
    architecture = platform.machine()
    if architecture == "aarch64":
        base = load_target("aarch64")
        features = tuple(f for f in host.ARM_EXTRAS if f in host.features())
        return Host(**{**_fields(base), **found, "features": features})
    if architecture != "x86_64":
        raise UsageError(f"this machine ({architecture}) is not known", hint="name a target instead of host")
    level = host.x86_level()
    features = tuple(f for f in host.X86_EXTRAS if f in host.features()) if level >= 3 else ()
    base = load_target(f"x86-64-v{level}")
    return Host(**{**_fields(base), **found, "features": features, "emulator": ""})
