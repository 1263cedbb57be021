"""Learning a student's weights from its teacher: batches, Adam, the best that was seen.

Steps are shares of what they change: Adam's, times the root mean square of the array. BatchNormalization is folded in
models that run, and leaves arrays whose sizes are a thousand times apart: one step for all ruins the small ones before
the large ones move (Shazeer and Stern 2018, relative step sizes; You et al. 2020).

Zeros of sparse weights stay (`graphopt.passes.sparsity`): they have no gradient, and Adam does not move them.

Everything follows from the seed: batches are drawn by the number of their epoch, so that a run that is taken up again
behind a checkpoint ends as one that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graphopt.passes.sparsity.patterns import held_zeros
from graphopt.recovery.checkpoint import State, load_state, save_state
from graphopt.recovery.function import GraphFunction, Weights
from graphopt.recovery.losses import TEMPERATURE, distance, of_labels

Batch = dict[str, np.ndarray]
Augment = Callable[[Batch, np.random.Generator], Batch]
"""Gets samples along a first axis, returns as many."""

DIVERGED = 4.0
"""A loss so many times the first one will not come back."""

WARM_UP = 0.05
"""Share of the steps in which the rate rises."""

HELD_BACK = 0.1
"""Share of the samples that tell which weights are the best."""

MEASURED = 256
"""Samples in one run of what is only measured."""


@dataclass(frozen=True)
class Settings:
    """How to learn. `minutes` ends it early; `patience` is in epochs without a better loss on what is held back.

    `rate` is the share of an array's root mean square that a step changes, at its highest. `label_share` is how much
    labels count beside the teacher.
    """

    epochs: int = 30
    minutes: float | None = None
    rate: float = 1e-2
    batch: int = 64
    temperature: float = TEMPERATURE
    label_share: float = 0.5
    patience: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Course:
    """How it went: the loss on what is held back, before and at its best, and the reason why it ended."""

    first: float
    best: float
    epochs: int
    ended: str
    history: tuple[float, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """What is learned from: samples along a first axis, labels if there are any, and how batches are varied."""

    samples: Batch
    labels: np.ndarray | None = None
    augment: Augment | None = None

    @property
    def count(self) -> int:
        return len(next(iter(self.samples.values())))


def learn(
    student: GraphFunction,
    teachers: Sequence[GraphFunction],
    lesson: Lesson,
    settings: Settings,
    checkpoint: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Weights, Course]:
    """The best weights of `student`, which learns the mean of what its teachers return.

    Raises UsageError for a checkpoint of something else.
    """
    return _Course(student, teachers, lesson, settings, checkpoint, progress).run()


def _mean(teachers: Sequence[GraphFunction]) -> Callable[[Any, Any], list[Any]]:
    """The mean of each output, scores in front of a Softmax, of a list of weights and samples."""
    functions = [teacher.over_batches() for teacher in teachers]

    def answers(weights: Any, samples: Any) -> list[Any]:
        each = [function(own, samples) for function, own in zip(functions, weights, strict=True)]
        return [sum(column[1:], column[0]) / len(column) for column in zip(*each, strict=True)]

    return answers


class _Course:
    def __init__(
        self,
        student: GraphFunction,
        teachers: Sequence[GraphFunction],
        lesson: Lesson,
        settings: Settings,
        checkpoint: Path | None,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.lesson, self.settings, self.checkpoint, self.progress = lesson, settings, checkpoint, progress
        order = np.random.default_rng(settings.seed).permutation(lesson.count)
        held = max(int(HELD_BACK * lesson.count), 1)
        self.held, self.learned = np.sort(order[:held]), np.sort(order[held:])
        self.batch = min(settings.batch, len(self.learned))
        self.steps = max(len(self.learned) // self.batch, 1)
        self.teacher = _mean(teachers)
        self.taught = [teacher.weights for teacher in teachers]
        self.answers = None if lesson.augment else self._answers(np.arange(lesson.count))
        self.wanted = (
            self._answers(self.held) if self.answers is None else [a[self.held] for a in self.answers]
        )
        total = settings.epochs * self.steps
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, settings.rate, max(int(WARM_UP * total), 1), max(total, 2)
        )
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(),
            optax.scale_by_param_block_rms(),
            optax.scale_by_learning_rate(schedule),
        )
        self.start = {name: jnp.asarray(array) for name, array in student.weights.items()}
        self.zeros = {
            name: zeros
            for name, array in student.weights.items()
            if array.ndim > 1 and (zeros := held_zeros(array)) is not None
        }
        self.student = student.over_batches()
        self._step = jax.jit(self._update)
        self._measured = jax.jit(self._distance)

    def run(self) -> tuple[Weights, Course]:
        state = State(self.start, self.optimizer.init(self.start), 0, self.start, [])
        if self.checkpoint is not None and self.checkpoint.exists():
            state = load_state(self.checkpoint, state)
        first = state.history[0] if state.history else self._loss(self.start)
        state.history = state.history or [first]
        begun, ended = time.monotonic(), "all epochs are done"
        while state.epoch < self.settings.epochs:
            self._epoch(state)
            loss = self._loss(state.weights)
            state.history.append(loss)
            state.epoch += 1
            if not np.isfinite(loss) or loss > DIVERGED * first:
                ended = f"it diverged in epoch {state.epoch}; the best weights before are kept"
                break
            if loss <= min(state.history):
                state.best = state.weights
            if self.checkpoint is not None:
                save_state(self.checkpoint, state)
            if len(state.history) - 1 - int(np.argmin(state.history)) >= self.settings.patience:
                ended = f"no better for {self.settings.patience} epochs"
                break
            if self.settings.minutes is not None and time.monotonic() - begun > 60 * self.settings.minutes:
                ended = f"{self.settings.minutes:g} minutes are over"
                break
        seen = [loss for loss in state.history if np.isfinite(loss)]
        return state.best, Course(first, min(seen), state.epoch, ended, tuple(state.history))

    def _epoch(self, state: State) -> None:
        random = np.random.default_rng((self.settings.seed, state.epoch))
        order = random.permutation(self.learned)
        for number in range(self.steps):
            if self.progress:
                done, total = state.epoch * self.steps + number, self.settings.epochs * self.steps
                self.progress("learning", done, total)
            chosen = order[number * self.batch : (number + 1) * self.batch]
            samples = self._samples(chosen)
            if self.lesson.augment is not None:
                samples = self.lesson.augment(samples, random)
            answers = None if self.answers is None else [a[chosen] for a in self.answers]
            labels = None if self.lesson.labels is None else jnp.asarray(self.lesson.labels[chosen])
            state.weights, state.optimizer = self._step(
                state.weights, state.optimizer, samples, answers, labels
            )

    def _update(self, weights: Any, optimizer: Any, samples: Any, answers: Any, labels: Any) -> Any:
        """Of samples that were varied the teacher's answers are found in the same program."""
        answers = self.teacher(self.taught, samples) if answers is None else answers
        gradients = jax.grad(self._distance)(weights, samples, answers, labels)
        for name, zeros in self.zeros.items():
            gradients[name] = jnp.where(zeros, 0, gradients[name])
        updates, optimizer = self.optimizer.update(gradients, optimizer, weights)
        return optax.apply_updates(weights, updates), optimizer

    def _distance(self, weights: Any, samples: Any, answers: Any, labels: Any) -> Any:
        made = self.student(weights, samples)
        pairs = zip(made, answers, strict=True)
        total = sum(distance(a, b, self.settings.temperature) for a, b in pairs)
        if labels is None:
            return total
        share = self.settings.label_share
        return (1 - share) * total + share * of_labels(made[0], labels)

    def _loss(self, weights: Any) -> float:
        """On what is held back, as it is."""
        losses = []
        for start in range(0, len(self.held), MEASURED):
            part = slice(start, start + MEASURED)
            chosen = self.held[part]
            labels = None if self.lesson.labels is None else jnp.asarray(self.lesson.labels[chosen])
            answers = [answer[part] for answer in self.wanted]
            losses.append(
                float(self._measured(weights, self._samples(chosen), answers, labels)) * len(chosen)
            )
        return sum(losses) / len(self.held)

    def _samples(self, chosen: np.ndarray) -> Batch:
        return {name: array[chosen] for name, array in self.lesson.samples.items()}

    def _taught(self, samples: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(answer) for answer in self.teacher(self.taught, samples)]

    def _answers(self, chosen: np.ndarray) -> list[np.ndarray]:
        parts = [
            self._taught(self._samples(chosen[start : start + MEASURED]))
            for start in range(0, len(chosen), MEASURED)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
