"""The observers by name."""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observer
from graphopt.runtime.observers.entropy import Entropy
from graphopt.runtime.observers.min_max import MinMax
from graphopt.runtime.observers.moving_average import MovingAverage
from graphopt.runtime.observers.mse import MeanSquaredError
from graphopt.runtime.observers.percentile import Percentile
from graphopt.spec import ITEM, made_from

OBSERVERS: dict[str, type[Observer]] = {
    cls.name: cls for cls in (MinMax, MovingAverage, Percentile, Entropy, MeanSquaredError)
}


def observer_named(spec: str | Observer) -> Observer:
    """The observer of a text such as `min-max` or `percentile{percent=99.9}`. Raises UsageError."""
    if isinstance(spec, Observer):
        return spec
    match = ITEM.fullmatch(spec)
    if match is None or match["comma"]:
        raise UsageError(f"'{spec}' is no observer", hint=f"one of {', '.join(OBSERVERS)}")
    return made_from(match["name"], match["options"] or "", OBSERVERS, "observer", where="calibration")
