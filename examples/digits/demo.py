"""Compile a small trained network for this machine and for a Raspberry Pi 4, and let both read 200 digits.

    python examples/digits/demo.py

The bundles are left in build/digits. Where this machine is no Raspberry Pi, the second one runs under
emulation: that shows what it answers, and says nothing about its speed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import graphopt
from graphopt.cli.progress import progress
from graphopt.report.tables import duration, show, size, table
from graphopt.targets.bundle import Bundle
from graphopt.verification import runner

HERE = Path(__file__).parent
OUT = HERE.parent.parent / "build" / "digits"
COLUMNS = ("target", "library", "weights", "workspace", "accuracy", "latency", "run on")
ROUNDS = 5


def main() -> None:
    samples, labels = digits()
    rows = []
    for target in ("host", "rpi4"):
        with progress() as step:
            bundle = graphopt.compile(HERE / "digits.onnx", target=target, out=OUT / target, progress=step)
        rows.append([target, *sizes(bundle), *results(bundle, samples, labels)])
    show(table(f"digits.onnx on {len(samples)} pictures it was not trained on", COLUMNS, rows))
    show(f"The bundles are in {OUT}; latency is that of a call from Python, on one thread.")


def digits() -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """The inputs of one run each, float32 [1, 1, 8, 8] from 0 to 1, and the right answers."""
    with np.load(HERE / "digits.npz") as data:
        pictures = data["images"].astype(np.float32) / 16
        return [{"input": picture[np.newaxis, np.newaxis]} for picture in pictures], data["labels"]


def sizes(bundle: Bundle) -> list[str]:
    weights = bundle.manifest["weights_bytes"]
    return [size(bundle.library.stat().st_size), size(weights), size(bundle.abi.workspace_bytes)]


def results(bundle: Bundle, samples: list[dict[str, np.ndarray]], labels: np.ndarray) -> list[str | None]:
    """Accuracy, latency (None under emulation) and where the bundle ran."""
    try:
        run, machine = runner(bundle)
    except graphopt.GraphoptError as missing:
        return [None, None, f"not run: {missing}"]
    scores = []
    with progress() as step:
        for number, sample in enumerate(samples):
            step(f"reading digits on {machine}", number, len(samples))
            scores.append(only(run(sample)))
    right = np.mean(np.array(scores).argmax(axis=-1).ravel() == labels)
    native = isinstance(run, graphopt.Module)
    return [f"{right:.1%}", duration(seconds_per_run(run, samples)) if native else None, machine]


def seconds_per_run(module: graphopt.Module, samples: list[dict[str, np.ndarray]]) -> float:
    """The least mean over a few rounds: what else the machine did disturbs it least."""
    module.set_num_threads(1)
    means = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for sample in samples:
            module(sample)
        means.append((time.perf_counter() - start) / len(samples))
    return min(means)


def only(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    (array,) = outputs.values()
    return array


if __name__ == "__main__":
    main()
