"""Building candidates and judging what they computed.

Each candidate is built in a process that is forked for it: the compiler is loaded already, several are built at once,
and one that crashes the compiler or never ends takes nothing with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from graphopt.ir.layout import blocked_of, from_blocks
from graphopt.runtime import reference
from graphopt.runtime.compare import compare_arrays
from graphopt.runtime.manifest import Tensor
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates import Choice
from graphopt.targets.tuning.program import BuiltCandidate, operands_name
from graphopt.tuning.tasks import Task
from graphopt.verification import random_sample

BUILD_SECONDS = 60.0
"""For one candidate: a tile that keeps the compiler busy longer is none to win."""

POLL = 0.01

AMPLIFICATION = 100.0
"""How many times the rounding error of a plain sum a candidate may have: Winograd's transforms have bounds up to it."""

INEXACT = frozenset(
    {"Exp", "Sigmoid", "Tanh", "Erf", "Gelu", "Swish", "Softmax", "Softplus", "Mish", "Elu", "Selu"}
)
"""Functions that kernels approximate: next to a tie a byte made of one may differ by one step."""


def sample_of(task: Task) -> dict[str, np.ndarray]:
    """Random operands that are no constants, the constants, all by name."""
    values = list(enumerate(task.body.inputs))
    free = [v for number, v in values if number not in task.constants]
    made = random_sample([Tensor(v.name, v.dtype, v.static_shape) for v in free], seed=0)
    return made | {v.name: task.constants[number] for number, v in values if number in task.constants}


def build(
    task: Task,
    choices: Sequence[Choice],
    sample: Mapping[str, np.ndarray],
    folder: Path,
    target: Target,
    jobs: int,
) -> list[BuiltCandidate | str]:
    """Build candidates, `jobs` at once; the reason in place of one that cannot be built."""
    context = multiprocessing.get_context("fork")
    waiting = list(enumerate(choices))
    running: dict[int, tuple[BaseProcess, float]] = {}
    late: set[int] = set()
    sys.stdout.flush()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, choice = waiting.pop(0)
                arguments = (task, choice, sample, folder, target, number)
                process: BaseProcess = context.Process(target=_build_one, args=arguments, daemon=True)
                process.start()
                running[number] = process, time.monotonic() + BUILD_SECONDS
            time.sleep(POLL)
            for number, (process, deadline) in list(running.items()):
                if process.is_alive() and time.monotonic() > deadline:
                    process.kill()
                    late.add(number)
                if not process.is_alive():
                    process.join()
                    del running[number]
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()
    return [
        f"it was not built within {BUILD_SECONDS:g} s" if number in late else _outcome(folder, number)
        for number in range(len(choices))
    ]


def _build_one(
    task: Task, choice: Choice, sample: Mapping[str, np.ndarray], folder: Path, target: Target, number: int
) -> None:
    """In a process of its own: the object, and a file that tells of it or of what went wrong."""
    from graphopt.targets.codegen import compile_kernels

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(1)
    function = f"candidate_{number}"
    try:
        packed = choice.template.pack(choice.decision, task.constants)
        operands = [packed.get(n, sample[v.name]) for n, v in enumerate(task.body.inputs)]
        compiled = compile_kernels({function: choice.build()}, target)
        name = f"{function}.o"
        (folder / name).write_bytes(compiled.object_bytes)
        (folder / f"built.{number}").write_bytes(
            b"".join(np.ascontiguousarray(a).tobytes() for a in operands)
        )
        outputs = [v.type.size * v.dtype.numpy.itemsize for v in task.body.outputs if v.type is not None]
        told = {
            "object_name": name,
            "function": function,
            "inputs": [a.nbytes for a in operands],
            "outputs": outputs,
            "workspaces": list(compiled.workspaces[function]),
        }
    except Exception as error:  # whatever the compiler says of this candidate, the next may be fine
        told = {"reason": f"{type(error).__name__}: {str(error).strip()[-200:]}"}
    (folder / f"told.{number}").write_text(json.dumps(told))


def _outcome(folder: Path, number: int) -> BuiltCandidate | str:
    try:
        told = json.loads((folder / f"told.{number}").read_text())
    except (OSError, ValueError):
        return "the compiler crashed"
    if "reason" in told:
        return str(told["reason"])
    sizes = {name: tuple(told[name]) for name in ("inputs", "outputs", "workspaces")}
    return BuiltCandidate(told["object_name"], told["function"], **sizes)


def place_operands(folder: Path, built: Sequence[int]) -> None:
    """Number the operands of those that were built as the program does."""
    for place, number in enumerate(built):
        (folder / f"built.{number}").rename(folder / operands_name(place))


class Judge:
    """Knows what a task's results have to be."""

    def __init__(self, task: Task, sample: Mapping[str, np.ndarray]) -> None:
        self._outputs = task.body.outputs
        names = task.body.output_names
        expected = reference.run(task.body, sample)
        self._expected = [expected[name] for name in names]
        depth = max((_depth(array) for array in sample.values()), default=1)
        self._rounding = AMPLIFICATION * float(np.sqrt(depth))
        self._steps = 1 if any(node.op_type in INEXACT for node in task.body.nodes) else 0

    def fault(self, results: bytes) -> str:
        """What is wrong with the outputs, one after the other; empty if nothing is."""
        for value, want in zip(self._outputs, self._expected, strict=True):
            size = want.size * value.dtype.numpy.itemsize
            data, results = results[:size], results[size:]
            if len(data) < size:
                return "results end early"
            got = np.frombuffer(data, value.dtype.numpy).reshape(want.shape)
            layout = blocked_of(value.type)
            if layout is not None:
                want, got = from_blocks(want, layout.channels), from_blocks(got, layout.channels)
            error = compare_arrays(value.name, want, got)
            if error.reason:
                return error.reason
            if value.dtype.is_float:
                tolerance = self._rounding * float(
                    np.finfo(np.float32 if value.dtype.bits > 16 else np.float16).eps
                )
                if not error.relative <= tolerance:
                    return f"error {error.relative:.3g} of the scale, above {tolerance:.3g}"
            elif error.absolute > self._steps:
                return f"integers differ by up to {error.absolute:g}"
        return ""


def _depth(array: np.ndarray) -> int:
    """An upper bound of how many products one sum has, if the operand is a factor of them."""
    return max(array.size // array.shape[0], array.shape[-2] if array.ndim > 1 else 1) if array.size else 1
