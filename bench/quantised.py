"""One quantised file on a model's test set: how right it is, how near to the float model, how small, how much integer.

Files run in ONNX Runtime without its integer kernels, in the floats that Q/DQ prescribe: without VNNI those of x86
saturate. Ours also runs compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import graphopt
from bench.tasks import samples
from graphopt.analysis.integers import integer_shares
from graphopt.metrics import Tally, metric_named
from graphopt.runnable import runnable
from graphopt.runtime.manifest import Tensor

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""The first output."""

CALIBRATION = 128
PERCENT = 100


def session(model: Path) -> Run:
    """ONNX Runtime, Q/DQ in floats."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 4
    made = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = made.get_outputs()[0].name
    return lambda inputs: made.run([name], dict(inputs))[0]


def compiled(model: Path) -> Run:
    """Our library for this machine."""
    ready = runnable(model)
    name = ready.outputs[0].name
    return lambda inputs: np.asarray(ready.run(inputs)[name])


@dataclass
class Case:
    """A float model and its data. `test` bounds the samples of the final evaluation."""

    name: str
    model: Path
    specs: tuple[Tensor, ...]
    test: int

    @cached_property
    def calibration(self) -> list[dict[str, np.ndarray]]:
        return samples(self.model.stem, self._kinds, split="calib", count=CALIBRATION).inputs

    @cached_property
    def reference(self) -> np.ndarray:
        """The float model's answers."""
        return self._answers(session(self.model))

    @cached_property
    def metric(self) -> float:
        """The float model's, in per cent."""
        return self.score(self.reference)["metric"]

    def judge(self, run: Run) -> dict[str, Any]:
        """Metric in per cent, the ends of its interval, and SQNR against float in decibels."""
        answers = self._answers(run)
        signal = Tally(metric_named("sqnr"))
        signal.add(answers, self.reference)
        return {**self.score(answers), "SQNR": signal.score().value}

    def score(self, answers: np.ndarray) -> dict[str, float]:
        tally = Tally(metric_named("top1"))
        tally.add(answers, self._final.labels)
        score = tally.score()
        return {
            "metric": PERCENT * score.value,
            "low": PERCENT * score.low,
            "high": PERCENT * score.high,
        }

    def _answers(self, run: Run) -> np.ndarray:
        return np.concatenate([run(inputs) for inputs in self._final.inputs])

    @cached_property
    def _final(self) -> Any:
        return samples(self.model.stem, self._kinds, split="test", count=self.test)

    @property
    def _kinds(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        return {spec.name: (spec.dtype.numpy, spec.shape) for spec in self.specs}


def makeup(model: Path) -> dict[str, float | None]:
    """Kilobytes of the file, and its shares of integers in per cent."""
    shares = integer_shares(graphopt.load(model))

    def percent(share: float | None) -> float | None:
        return None if share is None else PERCENT * share

    return {
        "KB": model.stat().st_size / 1e3,
        "int8 weights": percent(shares.of_weights),
        "int8 MACs": percent(shares.of_macs),
        "bits a weight": shares.bits_a_weight,
    }
