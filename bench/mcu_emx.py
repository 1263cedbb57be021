"""emx-onnx-cgen, a generator of C from ONNX, as a peer on microcontrollers: its C in a bundle that our board runs.

Its temporaries are on the stack and its weights in the C file, as firmware wants them.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.peers import PeerError
from graphopt.runtime.manifest import Signature
from graphopt.targets.abi import FIRMWARE_ALIGNMENT, ModelAbi
from graphopt.targets.bundle import Bundle, write_files
from graphopt.targets.device import Target
from graphopt.targets.firmware.header import firmware_header, run_prototype
from graphopt.targets.firmware.interface import parameter_names

VERSION = "1.4.0"
NAME = "net"
OPTIONS = ("--large-temp-threshold", "0", "--large-weight-threshold", "0", "--color", "never")
SECONDS = 600


def emx_text(model: Path, folder: Path) -> str:
    """The C that it makes of the model. Raises PeerError where it is missing or fails."""
    if find_spec("emx_onnx_cgen") is None:
        raise PeerError(f"emx-onnx-cgen is not installed (pip install emx-onnx-cgen=={VERSION})")
    made = folder / "emx.c"
    command = [sys.executable, "-m", "emx_onnx_cgen", "compile", str(model), str(made), *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise PeerError(f"emx-onnx-cgen: {said[0]}")
    return made.read_text()


def emx_bundle(text: str, signature: Signature, target: Target, out: Path) -> Bundle:
    """The C behind an entry function as ours is, for a model with that signature."""
    abi = ModelAbi(NAME, (signature,), 0, 1, alignment=FIRMWARE_ALIGNMENT)
    inputs, outputs = parameter_names(abi)
    entry = [
        f'#include "{NAME}.h"',
        f"void model({', '.join(['const void *'] * len(inputs) + ['void *'] * len(outputs))});",
        f"{run_prototype(abi)} {{",
        "    (void)arena;",
        "    (void)arena_bytes;",
        f"    model({', '.join([*inputs, *outputs])});",
        "    return 0;",
        "}",
        "",
    ]
    files = {
        f"{NAME}.h": firmware_header(abi, {}, layers=1),
        f"{NAME}.c": "\n".join(entry),
        f"{NAME}_kernels.c": text,
        f"{NAME}_weights.c": "",
    }
    encoded = {name: content.encode() for name, content in files.items()}
    return write_files(out, abi, encoded, target=target, report={})
