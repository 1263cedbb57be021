"""Anything that answers samples, in one form: an ONNX file, a graph, a bundle.

Models are compiled for this machine first; what it cannot compile, the numpy reference runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.api import Progress, compile, load
from graphopt.data import input_specs
from graphopt.errors import UnsupportedError, UsageError
from graphopt.ir import Graph
from graphopt.runtime import reference
from graphopt.runtime.manifest import Tensor
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import Target
from graphopt.verification import runner


@dataclass(frozen=True)
class Runnable:
    """`run` maps arrays by name to arrays by name, of the types of `inputs` and `outputs`.

    `machine` tells what runs it. `bundle` is what was compiled; None for the numpy reference.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    machine: str
    bundle: Bundle | None = None

    @property
    def batch(self) -> int:
        """Samples in one run: the length of the first input's first axis."""
        shape = self.inputs[0].shape
        return shape[0] if shape else 1


Model = str | Path | Graph | Bundle | Runnable


def runnable(
    model: Model,
    progress: Progress | None = None,
    *,
    folder: Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    target: Target | None = None,
) -> Runnable:
    """`model`, ready to run. In `folder` a compiled bundle is kept; without it only what runs stays, in memory.

    It is compiled for `target`, this machine unless given.

    `input_shapes` fixes symbolic dimensions of a file's inputs by name.

    Raises GraphoptError for what is neither a model nor a bundle.
    """
    if isinstance(model, Runnable):
        return model
    if isinstance(model, Bundle):
        return _of_bundle(model)
    if isinstance(model, str | Path) and Path(model).is_dir():
        return _of_bundle(Bundle.open(model))
    graph = model if isinstance(model, Graph) else load(model, input_shapes=input_shapes)
    input_specs(graph)
    try:
        if folder is not None:
            folder.mkdir(exist_ok=True)
            out = folder / "model.bundle"
            machine = target or "host"
            return _of_bundle(compile(graph, target=machine, out=out, name="model", progress=progress))
        with tempfile.TemporaryDirectory(prefix="graphopt-") as temporary:
            return _of_bundle(
                compile(graph, out=Path(temporary) / "model.bundle", name="model", progress=progress)
            )
    except UnsupportedError:
        return _of_graph(graph)


def _of_bundle(bundle: Bundle) -> Runnable:
    run, machine = runner(bundle)
    if not bundle.abi.inputs:
        raise UsageError("it has no inputs, so no data can be given to it", where=str(bundle.path))
    inputs, outputs = (
        tuple(Tensor(spec.name, spec.dtype, spec.shape) for spec in side)
        for side in (bundle.abi.inputs, bundle.abi.outputs)
    )
    return Runnable(inputs, outputs, run, machine, bundle)


def _of_graph(graph: Graph) -> Runnable:
    outputs = tuple(
        Tensor(name, value.dtype, value.static_shape if value.is_static else ())
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
    )
    return Runnable(
        input_specs(graph), outputs, lambda inputs: reference.run(graph, inputs), "the numpy reference"
    )
