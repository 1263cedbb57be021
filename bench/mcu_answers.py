"""Answers of a firmware bundle on more samples than an emulator runs: its very C sources as a program of this machine.

They are built for 32 bits, without a line changed; a bundle for a core without extensions is plain C.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.guest import SOURCES
from bench.oracles import onnx_runtime
from bench.tasks import Samples, samples
from graphopt.targets.bundle import Bundle
from graphopt.verification import random_sample

FLAGS = "-target x86-linux-musl -msse2 -mfpmath=sse -std=c99 -O2 -w -static".split()
WORD = 4
ANSWERS = 2000
FEW, NOISE = 100, 1000
"""Samples that are too few to tell a share of answers; random ones in their place."""

Specs = dict[str, tuple[np.dtype, tuple[int, ...]]]


def run_here(bundle: Bundle, samples: Sequence[np.ndarray], folder: Path) -> list[np.ndarray]:
    """Outputs of a bundle called "net" of a model with one input and one output, whose C is plain."""
    for name in bundle.manifest["files"]:
        shutil.copy(bundle.path / name, folder)
    shutil.copy(SOURCES / "run_samples.c", folder)
    sources = ["run_samples.c", "net.c", "net_kernels.c", "net_weights.c"]
    zig = [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*zig, *FLAGS, *sources, "-lm", "-o", "run_samples"], cwd=folder, check=True)
    data = b"".join(np.ascontiguousarray(sample).tobytes() for sample in samples)
    (folder / "in.bin").write_bytes(len(samples).to_bytes(WORD, "little") + data)
    subprocess.run(["./run_samples"], cwd=folder, check=True)
    (spec,) = bundle.abi.outputs
    made = np.fromfile(folder / "out.bin", spec.dtype.numpy)
    return list(made.reshape(len(samples), *spec.shape))


def answers(path: Path, bundle: Bundle, specs: Specs, folder: Path) -> dict:
    """Of all samples: how many are right, here and in ONNX Runtime; without labels, how many are the same."""
    data = samples(path.stem, specs, split="test", count=ANSWERS)
    if len(data.inputs) < FEW:
        data = Samples([random_sample(bundle.abi.inputs, seed) for seed in range(NOISE)], None)
    (name,) = specs
    here = folder / "here"
    here.mkdir()
    ours = [int(made.argmax()) for made in run_here(bundle, [x[name] for x in data.inputs], here)]
    run = onnx_runtime(path)
    theirs = [int(next(iter(run(x).values())).argmax()) for x in data.inputs]
    count = len(ours)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    if data.labels is None:
        return {"answers": f"{same} equal of {count}", "lost": (count - same) / count}
    right, wanted = (
        sum(a == b for a, b in zip(side, data.labels.tolist(), strict=True)) for side in (ours, theirs)
    )
    return {
        "answers": f"{right} right ({wanted}) of {count}",
        "lost": (wanted - right) / count,
    }
