"""Observers: from the arrays that a value takes, sample by sample, to the range that quantisation uses.

An observer is a frozen dataclass whose fields are its options; `start` begins the observation of one value, which
takes memory that does not depend on the number of samples. Channels are observed each for itself where an axis is
given.
"""

from graphopt.runtime.observers.base import Observation, Observer, as_channels
from graphopt.runtime.observers.catalog import OBSERVERS, observer_named
from graphopt.runtime.observers.entropy import Entropy
from graphopt.runtime.observers.min_max import MinMax
from graphopt.runtime.observers.moving_average import MovingAverage
from graphopt.runtime.observers.mse import MeanSquaredError
from graphopt.runtime.observers.percentile import Percentile
from graphopt.runtime.observers.watch import Constant, Watch

__all__ = [
    "OBSERVERS",
    "Constant",
    "Entropy",
    "MeanSquaredError",
    "MinMax",
    "MovingAverage",
    "Observation",
    "Observer",
    "Percentile",
    "Watch",
    "as_channels",
    "observer_named",
]
