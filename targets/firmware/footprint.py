"""What the functions of a firmware bundle take: bytes of code and of stack, as the compiler tells.

The stack of a run is at most that of the entry function, of the deepest kernel and of the two deepest routines with
what is in their text, beside what functions of the C library take, which the compiler does not tell: `verify` finds the
depth by painting.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphopt.targets.device import Target
from graphopt.targets.firmware.build import MODEL_FLAGS, compile_c
from graphopt.targets.firmware.helium import OWN_FRAMES
from graphopt.targets.firmware.routines import is_routine, routine_of


@dataclass(frozen=True)
class Footprint:
    """Bytes of code and of stack by function; `compiler` is who told."""

    compiler: str
    code: Mapping[str, int]
    stack: Mapping[str, int]

    def stack_bound(self, entry: str) -> int:
        """Of a run by the function `entry`, without the C library's functions."""
        kernels, unseen = [0], [0]
        routines: Counter[str] = Counter()
        for name, taken in self.stack.items():
            if name in OWN_FRAMES:
                unseen.append(OWN_FRAMES[name])
            elif is_routine(name):
                routines[routine_of(name)] += taken
            elif name != entry:
                kernels.append(taken)
        return self.stack.get(entry, 0) + max(kernels) + sum(sorted(routines.values())[-2:]) + max(unseen)


def footprint(files: Mapping[str, bytes], target: Target, model: str) -> Footprint | None:
    """Compile the sources among `files` and ask; None where the compiler is not installed."""
    if shutil.which(f"{target.gcc}gcc") is None:
        return None
    code: dict[str, int] = {}
    stack: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="graphopt-") as temporary:
        folder = Path(temporary)
        for name in (f"{model}.h", f"{model}_internal.h", f"{model}.c", f"{model}_kernels.c"):
            (folder / name).write_bytes(files[name])
        for source in (f"{model}.c", f"{model}_kernels.c"):
            compile_c(target, [*MODEL_FLAGS, "-c", source, "-o", "object.o"], folder)
            code.update(_code(folder / "object.o", target))
            stack.update(_stack(folder / "object.su"))
    said = subprocess.run([f"{target.gcc}gcc", "-dumpfullversion"], capture_output=True, text=True).stdout
    return Footprint(f"{target.gcc}gcc {said.strip()}", code, stack)


def _code(object_file: Path, target: Target) -> dict[str, int]:
    """Bytes of each function, its constants aside."""
    command = [f"{target.gcc}nm", "--print-size", "--defined-only", str(object_file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = (line.split() for line in said.splitlines())
    return {e[3]: int(e[1], 16) for e in entries if len(e) == 4 and e[2] in "tT"}


def _stack(told: Path) -> dict[str, int]:
    """Lines such as `net.c:9:5:net_run<tab>24<tab>static`."""
    entries = (line.split("\t") for line in told.read_text().splitlines())
    return {place.rsplit(":", 1)[1]: int(taken) for place, taken, _ in entries}
