"""What a compiled model is held against: ONNX Runtime, its optimisations off.

With exact sums where the model is quantised: see `graphopt/integer_oracle.py`.
"""

from __future__ import annotations

from pathlib import Path

from graphopt.verification import Run


def onnx_runtime(model: Path | bytes) -> Run:
    """A function that runs the ONNX file, optimisations off: arrays by name in, arrays by name out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
