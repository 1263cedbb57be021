"""How far a student is from its teacher, and from labels.

    distillation   Kullback-Leibler divergence of the classes' probabilities at a temperature, times its square
    difference     squared error over the variance of what the teacher returns, for outputs that are no classes

Source: Hinton et al. 2015.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

TEMPERATURE = 2.0


def is_classes(output: Any) -> bool:
    """Whether an output of one sample is a row of scores: [1, classes]."""
    return len(output) == 2 and output[0] == 1 and output[1] > 1


def distance(student: Any, teacher: Any, temperature: float) -> Any:
    """Of a batch of one output, samples along the first axis."""
    if not is_classes(student.shape[1:]):
        return jnp.square(student - teacher).mean() / jnp.maximum(teacher.var(), 1e-12)
    wanted = jax.nn.log_softmax(teacher / temperature)
    got = jax.nn.log_softmax(student / temperature)
    return (jnp.exp(wanted) * (wanted - got)).sum(-1).mean() * temperature**2


def of_labels(student: Any, labels: Any) -> Any:
    """Cross-entropy of [samples, 1, classes] with the numbers of classes."""
    chances = jax.nn.log_softmax(student[:, 0])
    return -jnp.take_along_axis(chances, labels[:, None], axis=1).mean()
