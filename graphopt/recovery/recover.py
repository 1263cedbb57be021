"""Getting accuracy back by learning: a smaller model learns what the original returns.

    result = graphopt.recover("small.onnx", "model.onnx", "samples.npz:images")
    write_model(result.graph, "small.recovered.onnx")

Both graphs run as JAX functions (`function.py`); the student's weights follow the gradients of its distance from the
teacher (`losses.py`, `train.py`), on samples that need no labels. Needs JAX and optax: `pip install graphopt[recover]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphopt.api import Progress, load, optimize
from graphopt.compression import Change, change
from graphopt.data.functions import function_named
from graphopt.errors import UsageError
from graphopt.evaluate import Judge
from graphopt.ir import Graph
from graphopt.passes import PRUNABLE
from graphopt.quality import labels_of
from graphopt.quantization import refuse_quantised
from graphopt.sensitivity import Task, first_of

if TYPE_CHECKING:
    import onnx

    from graphopt.recovery.train import Course

    Source: TypeAlias = Graph | str | Path | bytes | onnx.ModelProto

MEMORY = 2 << 30
"""Bytes of samples that are kept."""

FEWEST = 20


@dataclass(frozen=True)
class RecoverResult:
    """The student with its new weights, how learning went, and the teacher and the student beside each other."""

    graph: Graph
    course: Course
    change: Change
    notes: tuple[str, ...] = ()


def recover(
    student: Source,
    teacher: Source | Sequence[Source],
    data: object,
    *,
    epochs: int = 30,
    minutes: float | None = None,
    rate: float = 1e-2,
    batch: int = 64,
    temperature: float = 2.0,
    label_share: float = 0.5,
    patience: int = 10,
    seed: int = 0,
    freeze: Sequence[str] = (),
    augment: Any = None,
    checkpoint: str | Path | None = None,
    labels: object = None,
    metric: str | None = None,
    evaluate: Judge | str | None = None,
    preprocess: str | None = None,
    limit: int | None = None,
    measure: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> RecoverResult:
    """Let `student` learn from `teacher` on `data` (any form that `graphopt.data.open_samples` takes).

    Of several teachers the mean of their answers is learned; the first is what the student is measured beside. Weights
    of nodes that `freeze` names stay as they are, `*` standing for any letters.

    `labels`, where given, count for `label_share` of what is learned. A tenth of the samples is held back and tells
    which weights are the best; learning ends after `epochs`, or `minutes`, or `patience` epochs that are no better, or
    when it diverges. A step changes an array by the share `rate` of its size at most. `augment(batch, random)`, a
    function or `module:function`, varies samples (arrays by input name, samples along a first axis). A `checkpoint` is
    written after each epoch, and taken up where it is there already. Equal seeds give equal weights.

    Raises UsageError for models whose inputs or outputs differ, for too few samples, and where JAX is missing.
    """
    _check(epochs, batch, rate, label_share, temperature)
    task = Task(data, labels, metric or Task.metric, evaluate, preprocess, limit)
    task.check()
    vary = function_named(augment) if isinstance(augment, str) else augment
    teachers = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
    if not teachers:
        raise UsageError("there is no teacher", where="teacher", hint="name the model it was made from")
    models = [m if isinstance(m, Graph) else load(m, input_shapes=input_shapes) for m in (student, *teachers)]
    for model in models:
        refuse_quantised(model)
    small, *each = (optimize(model, PRUNABLE) for model in models)
    for one in each:
        check_alike(small, one)
    large = each[0]
    train, function = _learning()
    learner = function.GraphFunction(small, freeze)
    if not learner.weights:
        raise UsageError("no weights are left to learn", where="freeze", hint="freeze less")
    taught = [function.GraphFunction(one) for one in each]
    samples = _samples(large, task)
    wanted = None if task.labels is None else np.asarray(labels_of(task, task.samples(large)))
    lesson = train.Lesson(samples, None if wanted is None else wanted[: _count(samples)], vary)
    if progress:
        progress("learning", 0, 1)
    settings = train.Settings(epochs, minutes, rate, batch, temperature, label_share, patience, seed)
    place = None if checkpoint is None else Path(checkpoint)
    weights, course = train.learn(learner, taught, lesson, settings, place, progress)
    better = learner.with_weights(weights)
    is_measured = measure or task.has_metric
    changed = change(large, better, task, 0, None, measure=is_measured, progress=progress)
    notes = (
        ["what is measured here was learned from; `graphopt compare` takes data for tests"]
        if is_measured
        else []
    )
    return RecoverResult(better, course, changed, tuple(notes))


def check_alike(student: Graph, teacher: Graph) -> None:
    """Raise UsageError unless both take and return the same."""
    for kind, ours, theirs in (
        ("inputs", _types(student.inputs), _types(teacher.inputs)),
        ("outputs", _outputs(student), _outputs(teacher)),
    ):
        if ours != theirs:
            told = f"its {kind} are {_text(theirs)}, the student's are {_text(ours)}"
            raise UsageError(told, where="teacher", hint="name the model that the student was made from")


def _types(values: Sequence[Any]) -> dict[str, str]:
    return {value.name: str(value.type) for value in values}


def _outputs(graph: Graph) -> dict[str, str]:
    pairs = zip(graph.output_names, graph.outputs, strict=True)
    return {name: str(value.type) for name, value in pairs}


def _text(types: Mapping[str, str]) -> str:
    return ", ".join(f"'{name}' {type}" for name, type in types.items())


def _check(epochs: int, batch: int, rate: float, label_share: float, temperature: float) -> None:
    for name, value, good in (
        ("epochs", epochs, epochs >= 1),
        ("batch", batch, batch >= 1),
        ("rate", rate, 0 < rate < 1),
        ("label-share", label_share, 0 <= label_share <= 1),
        ("temperature", temperature, 0 < temperature < 1000),
    ):
        if not good:
            raise UsageError(f"{value} is out of range", where=name, hint="leave it out for the default")


def _learning() -> tuple[Any, Any]:
    """The modules that need JAX. Raises UsageError where it is missing."""
    try:
        from graphopt.recovery import function, train
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] not in ("jax", "jaxlib", "optax"):
            raise
        hint = "pip install graphopt[recover]; `prune` and `factorize` fit in closed form without it"
        raise UsageError(f"learning needs JAX and optax: {error}", where="recover", hint=hint) from None
    return train, function


def _samples(graph: Graph, task: Task) -> dict[str, np.ndarray]:
    """Samples along a new first axis, as many as memory holds. Raises UsageError for too few."""
    each = sum(value.type.nbytes for value in graph.inputs if value.type is not None)
    taken = first_of(iter(task.samples(graph)), max(MEMORY // max(each, 1), FEWEST))
    if len(taken) < FEWEST:
        what = f"{len(taken)} samples are too few to learn from"
        raise UsageError(what, where="data", hint=f"give {FEWEST} at least; thousands are better")
    return {value.name: np.stack([sample[value.name] for sample in taken]) for value in graph.inputs}


def _count(samples: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(samples.values())))
