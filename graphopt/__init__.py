"""graphopt: compile a trained ONNX model into a small, fast library for a small device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from graphopt.errors import GraphoptError

if TYPE_CHECKING:
    from graphopt.api import compile, load, optimize
    from graphopt.calibration import calibrate
    from graphopt.factorization import factorize
    from graphopt.ir import Graph
    from graphopt.pruning import prune
    from graphopt.quantization import quantize
    from graphopt.recovery.recover import recover
    from graphopt.runtime.module import Module
    from graphopt.sparsification import sparsify
    from graphopt.targets.bundle import Bundle
    from graphopt.tuning.tune import tune

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "graphopt.targets.bundle",
    "Graph": "graphopt.ir",
    "Module": "graphopt.runtime.module",
    "calibrate": "graphopt.calibration",
    "compile": "graphopt.api",
    "factorize": "graphopt.factorization",
    "load": "graphopt.api",
    "optimize": "graphopt.api",
    "prune": "graphopt.pruning",
    "quantize": "graphopt.quantization",
    "recover": "graphopt.recovery.recover",
    "sparsify": "graphopt.sparsification",
    "tune": "graphopt.tuning.tune",
}

__all__ = [
    "Bundle",
    "Graph",
    "GraphoptError",
    "Module",
    "__version__",
    "calibrate",
    "compile",
    "factorize",
    "load",
    "optimize",
    "prune",
    "quantize",
    "recover",
    "sparsify",
    "tune",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `import graphopt` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'graphopt' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What there is to use, whether or not it was imported yet."""
    return sorted(__all__)
