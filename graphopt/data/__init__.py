"""Data for calibration and evaluation: from files, arrays or functions to the model's inputs, one sample at a time."""

from graphopt.data.samples import Samples, input_specs, open_samples

__all__ = ["Samples", "input_specs", "open_samples"]
