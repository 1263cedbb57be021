"""This machine: its instruction sets, name, caches and memory as the kernel reports them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

X86_LEVELS = {
    3: ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "movbe"),
    4: ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
"""What the psABI's micro-architecture levels add, by LLVM's names."""

ARM_EXTRAS = ("dotprod", "i8mm", "fullfp16")
"""Features beyond ARMv8.0 that kernels can use."""

X86_EXTRAS = ("avx512vnni", "avxvnni", "avx512bf16", "avx512fp16", "amx-tile", "amx-int8")
"""Features beyond a level that kernels can use."""

HALF_ARITHMETIC = frozenset({"fullfp16", "avx512fp16"})
"""Features that are arithmetic on vectors of float16."""

LINUX_NAMES = {
    "bmi1": "bmi",
    "avx512_vnni": "avx512vnni",
    "avx_vnni": "avxvnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
}
"""Names of /proc/cpuinfo that LLVM spells otherwise."""


def features() -> frozenset[str]:
    """Instruction sets, by the kernel's names and by LLVM's."""
    names: set[str] = set()
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            names = set(value.split())
            break
    names.update(LINUX_NAMES[n] for n in tuple(names) if n in LINUX_NAMES)
    return frozenset(names)


def x86_level() -> int:
    """The highest micro-architecture level that has nothing this machine lacks; at least 2."""
    found = features()
    if not set(X86_LEVELS[3]) <= found:
        return 2
    return 4 if set(X86_LEVELS[4]) <= found else 3


def cpu_name() -> str:
    """The processor as the kernel calls it, or else the architecture."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "Model"):
            return " ".join(value.split())
    return platform.machine()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def cache_bytes(level: int) -> int:
    """Bytes of the first core's data or unified cache of that level; 0 when the kernel does not say."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            if (index / "level").read_text().strip() == str(level) and kind != "Instruction":
                size = (index / "size").read_text().strip()
                return int(size.rstrip("KM")) * (1024 if size.endswith("K") else 1024 * 1024)
        except (OSError, ValueError):
            continue
    return 0


def memory_bytes() -> int:
    """Bytes of main memory; 0 when the kernel does not say."""
    try:
        return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0)
    except (OSError, ValueError):
        return 0
