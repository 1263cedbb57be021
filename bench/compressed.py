"""One model made smaller by commands, and judged on its test set beside the original.

Whatever is fitted, learned or chosen sees training data alone; test data see each finished file once.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import graphopt
from bench.common import ZOO, interleaved
from bench.compression_rows import Row
from bench.quantised import PERCENT, session
from bench.tasks import TASKS, samples
from graphopt.analysis.cost import cost_of_graph
from graphopt.data import input_specs
from graphopt.errors import GraphoptError
from graphopt.metrics import Tally, difference, metric_named
from graphopt.runnable import runnable

TRAINING = {"mlperf_resnet8": "cifar10jpeg_train6000.npz", "trn_cifar": "cifar10jpeg_train6000.npz",
            "trn_mnist": "mnist_train6000.npz", "pkg_magika": "magika_unlabelled2400.npz"}  # fmt: skip
"""Files by how the names of models begin."""


@dataclass
class Subject:
    """A model of the zoo. `test` bounds the samples that judge, `folder` is where files go."""

    name: str
    test: int
    folder: Path

    @property
    def model(self) -> Path:
        return ZOO / "models" / f"{self.name}.onnx"

    @cached_property
    def data(self) -> Path:
        """Training samples `x`, each as one run of the model takes it, and labels `y` if there are any."""
        [file] = [file for prefix, file in TRAINING.items() if self.name.startswith(prefix)]
        prepare = next(prepare for prefix, _, prepare in TASKS if self.name.startswith(prefix))
        place = self.folder / f"{self.name}.npz"
        with np.load(ZOO / "evalsets" / file) as found:
            arrays = {"x": prepare(found["x"])[:, None]}
            if "y" in found:
                arrays["y"] = found["y"]
        np.savez(place, **arrays)  # type: ignore[arg-type]
        return place

    @cached_property
    def original(self) -> Tally:
        return self.tally(self.model)

    def tally(self, model: Path) -> Tally:
        """The answers of ONNX Runtime on the test set."""
        run, tally = session(model), Tally(metric_named("top1"))
        tally.add(np.concatenate([run(inputs) for inputs in self._final.inputs]), self._final.labels)
        return tally

    def loss(self, model: Path) -> tuple[float, float, float]:
        """Points that are lost, and the interval of that, the two paired sample by sample."""
        lost, low, high = difference(self.tally(model), self.original)
        return PERCENT * lost, PERCENT * low, PERCENT * high

    def latency(self, model: Path) -> float:
        """The time of a run of the compiled model over the original's, both on one thread, in turns."""
        both = {"original": runnable(self.model), "smaller": runnable(model)}
        sample = self._final.inputs[0]
        times = interleaved({name: lambda ready=ready: ready.run(sample) for name, ready in both.items()})
        return times["smaller"] / times["original"]

    @cached_property
    def _final(self) -> Any:
        specs = input_specs(graphopt.load(self.model))
        kinds = {spec.name: (spec.dtype.numpy, spec.shape) for spec in specs}
        return samples(self.name, kinds, split="test", count=self.test)


def commands(row: Row, subject: Subject, steps: Sequence[str], label: str) -> list[tuple[str, Path]]:
    """What to type, and the file that each command writes."""
    found, before = [], subject.model
    for number, step in enumerate(steps, start=1):
        out = subject.folder / f"{row.name}.{label}{number}.onnx"
        places = {"model": subject.model, "data": subject.data, "before": before, "out": out}
        found.append((step.format(**places), out))
        before = out
    return found


def run(command: str) -> None:
    """As a user does. Raises GraphoptError with what it said, where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise GraphoptError(done.stderr.strip()[-500:], where=command)


def measured(row: Row, subject: Subject, label: str, *, speed: bool) -> dict[str, Any]:
    """The cells of one method; its loss, before learning as well where it learns."""
    made = commands(row, subject, row.steps if label == "ours" else row.naive, label)
    cells: dict[str, Any] = {}
    start = time.perf_counter()
    for number, (command, out) in enumerate(made):
        run(command)
        if number == 0 and len(made) > 1:
            cells["before"] = out
    cells["seconds"] = time.perf_counter() - start
    if "before" in cells:
        cells["before"] = subject.loss(cells["before"])[0]
    result = made[-1][1]
    cells["loss"], cells["low"], cells["high"] = subject.loss(result)
    old, new = (cost_of_graph(graphopt.load(path)) for path in (subject.model, result))
    if old.macs and new.macs:
        cells["MACs"] = new.macs / old.macs
    cells["parameters"] = new.parameters / old.parameters
    cells["size"] = result.stat().st_size / subject.model.stat().st_size
    if speed:
        cells["latency"] = subject.latency(result)
    return cells
