"""Tuning a model: which task is tried next, and what is written down.

result = graphopt.tune("model.onnx", target="host", database="db", trials=200)
bundle = graphopt.compile("model.onnx", tuning_db="db")
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Graph
from graphopt.targets.device import Target, load_target
from graphopt.targets.schedules.templates import Choice
from graphopt.targets.tuning.advice import fitted, is_valid, nearest
from graphopt.targets.tuning.database import Contents, Writer, read
from graphopt.targets.tuning.program import link_program, results_name
from graphopt.targets.tuning.record import FAILED, OK, WRONG, Record, compiler_version, fingerprint
from graphopt.targets.tuning.runners import Measured, Runner, runner_of
from graphopt.tuning.candidates import Judge, build, place_operands, sample_of
from graphopt.tuning.evolution import Evolution, settings_of
from graphopt.tuning.tasks import Task, groups_of_model, tasks_of

if TYPE_CHECKING:
    import onnx

    from graphopt.pipeline import Pipeline

BATCH = 8
"""Candidates of one program."""

PATIENCE = 4
"""Batches without a gain after which a task is left alone."""

RUN_SECONDS = 10.0
"""For one candidate to be measured."""

MOST_SEEDS = 3
"""Decisions of near shapes that a search starts from, beside the default."""


@dataclass
class TaskProgress:
    """A task while it is tuned: trials of this run, costs of the default and of the best, in the runner's unit."""

    task: Task
    evolution: Evolution
    trials: int = 0
    default: float = float("inf")
    best: float = float("inf")
    choice: Choice | None = None
    batches: int = 0
    stale: int = 0
    gain: float = 1.0
    is_done: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def speedup(self) -> float:
        """Of the best over the default; 1 where either is not known."""
        known = self.default < float("inf") and self.best < float("inf")
        return self.default / self.best if known else 1.0

    def tell(self, choice: Choice, cost: float) -> None:
        self.evolution.tell(choice, cost)
        if settings_of(choice) == settings_of(self.task.default):
            self.default = min(self.default, cost)
        if cost < self.best:
            self.best, self.choice = cost, choice


@dataclass(frozen=True)
class TuneResult:
    """What came of every task; `unit` is "s" or "instructions", `trials` how many this run made."""

    tasks: tuple[TaskProgress, ...]
    unit: str
    runner: str
    trials: int
    seconds: float

    @property
    def speedup(self) -> float:
        """Of all tuned groups of the model together."""
        known = [t for t in self.tasks if t.default < float("inf")]
        before = sum(t.task.groups * t.default for t in known)
        after = sum(t.task.groups * t.best for t in known)
        return before / after if after else 1.0


Report = Callable[[str, int, int], None]
"""Called with what is being tried, trials done, and trials in all."""


def tune(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    *,
    target: str | Path | Target = "host",
    database: str | Path,
    trials: int = 256,
    minutes: float | None = None,
    runner: str | Runner | None = None,
    threads: int | None = None,
    pipeline: str | Pipeline | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    winograd: bool = True,
    precision: str = "float32",
    jobs: int | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> TuneResult:
    """Measure decisions of templates for the groups of a model, and add what is found to `database`, a folder.

    A search goes on where the database ends: what it knows is not measured again. It ends after `trials`, counted over
    all tasks, after `minutes`, or when no task gains any more. `runner` is "local" or "qemu", or an object with the
    methods of `Runner`; `jobs` candidates are built at once. Every candidate's results are held against the numpy
    reference; one that gives others never wins. Raises GraphoptError.
    """
    from graphopt.api import computes_in_half

    if trials < 1:
        raise UsageError(f"{trials} trials find nothing", where="trials", hint="give at least 1")
    if minutes is not None and not minutes > 0:
        raise UsageError(f"{minutes:g} minutes find nothing", where="minutes", hint="give more than 0")
    start = time.monotonic()
    machine = target if isinstance(target, Target) else load_target(str(target))
    chosen = runner_of(runner, machine) if runner is None or isinstance(runner, str) else runner
    half = computes_in_half(precision, machine)
    with Writer(Path(database)) as writer:
        groups = groups_of_model(model, machine, pipeline=pipeline, input_shapes=input_shapes, half=half)
        tasks = tasks_of(groups, machine, winograd=winograd, half=half)
        count = 1 if chosen.unit != "s" else threads or machine.cores
        run = _Run(machine, chosen, count, writer, jobs or len(os.sched_getaffinity(0)))
        known = read(Path(database))
        states = [run.state(task, known, random.Random(f"{seed} {task.workload.key}")) for task in tasks]
        deadline = float("inf") if minutes is None else start + 60 * minutes
        done = 0
        while done < trials and time.monotonic() < deadline:
            state = _most_promising(states)
            if state is None:
                break
            if progress:
                progress(_headline(state, states, chosen.unit), done, trials)
            done += run.batch(state, min(BATCH, trials - done))
    return TuneResult(tuple(states), chosen.unit, chosen.name, done, time.monotonic() - start)


def _headline(state: TaskProgress, states: Sequence[TaskProgress], unit: str) -> str:
    best = "" if state.best == float("inf") else f", best {costs(state.best, unit)} ({state.speedup:.2f}x)"
    return f"task {states.index(state) + 1} of {len(states)}: {state.task.name}{best}"


def costs(cost: float, unit: str) -> str:
    """A cost in words."""
    from graphopt.report.tables import duration

    return duration(cost) if unit == "s" else f"{cost:,.0f} {unit}"


def _most_promising(states: Sequence[TaskProgress]) -> TaskProgress | None:
    """A task that was not tried yet; else the one whose last gains, times its share of the model, were largest.

    Source: Zheng et al., "Ansor: generating high-performance tensor programs for deep learning", 2020, section 6.
    """
    open_ = [state for state in states if not state.is_done]
    fresh = [state for state in open_ if not state.batches]
    if fresh or not open_:
        return fresh[0] if fresh else None
    return max(open_, key=lambda s: s.gain * s.task.groups * min(s.best, 1e30))


class _Run:
    """One run of `tune`: where candidates are built and measured, and where records go."""

    def __init__(self, target: Target, runner: Runner, threads: int, writer: Writer, jobs: int) -> None:
        self.target, self.runner, self.threads = target, runner, threads
        self.writer, self.jobs = writer, jobs
        self._machine = fingerprint(target)
        self._checks: dict[str, tuple[dict[str, np.ndarray], Judge]] = {}

    def state(self, task: Task, known: Contents, generator: random.Random) -> TaskProgress:
        """A task with what the database knows of it, and of shapes like it."""
        place = task.workload.key, self._machine, self.runner.name, self.threads
        by_name = {template.name: template for template in task.templates}
        alike = [r for r in known.best().values() if r.place[1:] == place[1:] and r.workload != task.workload]
        seeds = [task.default]
        for record in nearest(task.workload, alike)[:MOST_SEEDS]:
            template = by_name.get(record.template)
            decision = None if template is None else fitted(template, record.decision)
            if template is not None and decision is not None:
                seeds.append(Choice(template, decision))
        state = TaskProgress(task, Evolution(task.templates, seeds, generator))
        for record in known.records:
            template = by_name.get(record.template)
            if record.place == place and template is not None and is_valid(template, record.decision):
                decision = {name: record.decision[name] for name in template.decisions()}
                state.tell(Choice(template, decision), record.cost)
        return state

    def batch(self, state: TaskProgress, count: int) -> int:
        """Try up to `count` candidates of a task; returns how many there were."""
        choices = state.evolution.propose(count)
        before = state.best
        state.batches += 1
        with tempfile.TemporaryDirectory(prefix="graphopt-", ignore_cleanup_errors=True) as folder:
            self._measure(state, choices, Path(folder))
        state.trials += len(choices)
        gained = 1 - state.best / before if before < float("inf") else 1.0
        state.gain = max(gained, state.gain / 2)
        state.stale = 0 if gained > 0 else state.stale + 1
        state.is_done = not choices or state.stale >= PATIENCE
        return len(choices)

    def _measure(self, state: TaskProgress, choices: Sequence[Choice], folder: Path) -> None:
        task = state.task
        if task.workload.key not in self._checks:
            made = sample_of(task)
            self._checks[task.workload.key] = made, Judge(task, made)
        sample, judge = self._checks[task.workload.key]
        outcomes = build(task, choices, sample, folder, self.target, self.jobs)
        built = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, str):
                self._keep(state, choices[number], Measured(FAILED, reason=outcome))
        if not built:
            return
        place_operands(folder, built)
        link_program([o for o in outcomes if not isinstance(o, str)], folder, self.target)
        for place, number in enumerate(built):
            measured = self.runner.measure(folder, place, self.threads, RUN_SECONDS)
            if measured.status == OK:
                fault = judge.fault(_contents(folder / results_name(place)))
                measured = Measured(WRONG, reason=fault) if fault else measured
            self._keep(state, choices[number], measured)

    def _keep(self, state: TaskProgress, choice: Choice, measured: Measured) -> None:
        record = Record(
            state.task.workload,
            self._machine,
            self.runner.name,
            compiler_version(),
            choice.template.name,
            choice.decision,
            measured.status,
            measured.cost,
            measured.median,
            self.runner.unit,
            self.threads,
            settings_of(choice) == settings_of(state.task.default),
        )
        self.writer.append([record])
        if measured.status != OK:
            state.faults.append(f"{choice}: {measured.reason}")
        state.tell(choice, measured.cost)


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
