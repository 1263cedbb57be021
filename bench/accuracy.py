"""How far exp, sigmoid, tanh, erf and Gelu of compiled kernels are from the truth, over all float32 numbers.

    python -m bench.accuracy [--quick] [--stride 1] [--function exp] [--json FILE]

Every `stride`-th bit pattern of both signs is an operand (1: all 4.3 thousand million of them, about an hour). The
truth is computed in float64. An error is told in units in the last place of the true result, no smaller than 2^-126;
Gelu's in those of its operand, since it is a product with a share of it. Sigmoid is told down to 2^-126, where it ends.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphopt
from bench.common import Report, arguments, progress
from graphopt.ir import DType, Graph, Origin, TensorType
from graphopt.rewrite import Builder

CHUNK = 1 << 17
"""Operands of one run."""

QUICK_STRIDE, STRIDE = 4099, 61
"""Primes: no low bits of the mantissa are left out."""

TINY = np.finfo(np.float32).tiny

_erf = np.frompyfunc(math.erf, 1, 1)


def _normal_share(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.asarray(1 + _erf(x * math.sqrt(0.5)), np.float64)


@dataclass(frozen=True)
class Function:
    """An operator, the true result in float64, and where it is told."""

    operator: str
    truth: Callable[[np.ndarray], np.ndarray]
    low: float = -math.inf
    by_operand: bool = False


FUNCTIONS = {
    "exp": Function("Exp", np.exp),
    "sigmoid": Function("Sigmoid", lambda x: 1 / (1 + np.exp(-x)), low=-87.0),
    "tanh": Function("Tanh", np.tanh),
    "erf": Function("Erf", lambda x: np.asarray(_erf(x), np.float64)),
    "gelu": Function("Gelu", lambda x: x * _normal_share(x), by_operand=True),
}


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--stride", type=int, help="every so many-th number")
    parser.add_argument("--function", action="append", choices=sorted(FUNCTIONS), help="only this one")
    options = parser.parse_args()
    stride = options.stride or (QUICK_STRIDE if options.quick else STRIDE)
    report = Report("Largest errors", ("function", "operands", "units in the last place", "at"))
    for name in progress(options.function or list(FUNCTIONS), str):
        operands, worst, place = largest_error(FUNCTIONS[name], stride)
        report.add(function=name, operands=operands, **{"units in the last place": worst, "at": place})
        report.figures[f"{name}_ulp"] = worst
    report.finish(options.json)


def largest_error(function: Function, stride: int) -> tuple[int, float, float]:
    """How many operands were tried, the largest error and where it is."""
    tried, worst, place = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = compiled(function.operator, Path(folder))
        for start in range(0, 1 << 32, CHUNK * stride):
            bits = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, np.uint64)
            x = np.resize(bits.astype(np.uint32).view(np.float32), CHUNK)
            x = np.where(np.isfinite(x) & (x >= function.low), x, np.float32(0))
            error = errors(function, x, run(x))
            at = int(error.argmax())
            tried += bits.size
            if error[at] > worst:
                worst, place = float(error[at]), float(x[at])
    return tried, worst, place


def errors(function: Function, x: np.ndarray, got: np.ndarray) -> np.ndarray:
    """In units in the last place. Results that overflow are right when they are infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        true = function.truth(x.astype(np.float64))
        rounded = true.astype(np.float32)
        size = np.abs(x if function.by_operand else rounded)
        unit = np.spacing(np.clip(size, TINY, np.finfo(np.float32).max))
        off = np.abs(got.astype(np.float64) - true) / unit
    same = np.isinf(rounded) & (got == rounded)
    return np.where(same, 0.0, np.where(np.isnan(off), math.inf, off))


def compiled(operator: str, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The operator on CHUNK numbers."""
    graph = Graph(operator.lower(), opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (CHUNK,)))
    graph.add_output(Builder(graph, None, Origin("", ("bench",))).op(operator, x), "y")
    module = graphopt.Module(graphopt.compile(graph, out=folder / "function.bundle", name="function").path)
    return lambda data: module({"x": data})["y"]


if __name__ == "__main__":
    main()
