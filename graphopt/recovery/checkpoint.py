"""Where learning stands, as a file: whole or not at all, so that a run that is killed can be taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.files import written_beside


@dataclass
class State:
    """Weights, the optimiser's state, epochs done, the best weights so far, losses on what is held back."""

    weights: Any
    optimizer: Any
    epoch: int
    best: Any
    history: list[float]


def save_state(path: Path, state: State) -> None:
    """Write it. Raises UsageError when it cannot be written."""
    leaves = jax.tree.leaves((state.weights, state.optimizer, state.best))
    arrays = {f"leaf{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, epoch=state.epoch, history=np.array(state.history), **arrays)  # type: ignore[arg-type]


def load_state(path: Path, like: State) -> State:
    """What was written, of the form of `like`. Raises UsageError for a file of something else."""
    form = (like.weights, like.optimizer, like.best)
    leaves, structure = jax.tree.flatten(form)
    hint = "name another checkpoint, or remove the file to begin anew"
    try:
        with np.load(path) as found:
            arrays = [found[f"leaf{number}"] for number in range(len(leaves))]
            epoch, history = int(found["epoch"]), found["history"].tolist()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"it is no checkpoint of this student: {error}", where=str(path), hint=hint
        ) from None
    if any(array.shape != np.shape(leaf) for array, leaf in zip(arrays, leaves, strict=True)):
        raise UsageError("it is a checkpoint of another student", where=str(path), hint=hint)
    weights, optimizer, best = jax.tree.unflatten(structure, [jax.numpy.asarray(array) for array in arrays])
    return State(weights, optimizer, epoch, best, history)
