"""Does a bundle give the answers of the model it was compiled from?

`graphopt.oracle` tells the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ToolchainError, UsageError, VerificationError, did_you_mean
from graphopt.ir import DType, TensorType
from graphopt.oracle import Oracle, Run, fixed_point_oracle, oracle_for
from graphopt.runtime.arguments import shape_of
from graphopt.runtime.compare import Comparison, compare_outputs
from graphopt.runtime.manifest import Signature, Tensor, module_info, runs_here

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.targets.bundle import Bundle
    from graphopt.targets.firmware.emulated import EmulatedFirmware
    from graphopt.targets.firmware.measured import Measured

TOLERANCES = {"float32": 1e-4, "float16": 0.05}
"""Precision -> largest error allowed, as a share of the output's scale. That of float16 is for deep networks."""

QUANTISED_HINT = (
    "only the bundle is quantised: verify one compiled from the file that `graphopt quantize -o` writes against that "
    "file; for what quantising costs, use `graphopt compare`"
)

Interface = Sequence[tuple[str, TensorType | None]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Verification:
    """The worst error of each output over all samples, and how it was found.

    `oracle_note` tells why the oracle is not ONNX Runtime. `same_source` is whether the bundle was compiled from
    this very file, None where the bundle does not know its source. `only_bundle_is_quantised` explains a difference.
    `measured` is what firmware took; None for libraries. `looser` are tolerances of outputs that may be a few steps off
    (`rounded_tolerances`).
    """

    comparison: Comparison
    samples: int
    oracle: str
    machine: str
    tolerance: float
    oracle_note: str = ""
    same_source: bool | None = None
    only_bundle_is_quantised: bool = False
    measured: Measured | None = None
    looser: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The largest error, as a share of its output's scale."""
        return self.comparison.worst

    @property
    def agrees(self) -> bool:
        return all(output.relative <= self.tolerance_of(output.name) for output in self.comparison.outputs)

    def tolerance_of(self, output: str) -> float:
        return self.looser.get(output, self.tolerance)

    def raise_if_different(self) -> None:
        """Raise VerificationError naming the output that is too far off, and what to do where quantising did that."""
        try:
            self.comparison.raise_if_worse_than(self.tolerance, self.looser)
        except VerificationError as error:
            if not self.only_bundle_is_quantised:
                raise
            raise VerificationError(error.what, where=error.where, hint=QUANTISED_HINT) from None


def verify_bundle(
    model: str | Path,
    bundle: str | Path,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    samples: int = 4,
    seed: int = 0,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Run `model` and `bundle` on the same inputs.

    `inputs` may hold several samples along the first axis (see `samples_for`); without it `samples` random ones
    are made for each shape of the bundle. Without a `tolerance` that of the bundle's precision counts
    (`TOLERANCES`). A bundle for another machine runs under emulation. Raises GraphoptError
    when either cannot run, UsageError when their inputs or outputs are not the same; a difference is reported, not
    raised.
    """
    from graphopt.api import load
    from graphopt.quantization import is_quantised
    from graphopt.targets.bundle import Bundle

    opened = Bundle.open(bundle)
    graph, same_source = _described(model, opened)
    firmware = _firmware(opened) if opened.target.is_firmware else None
    run, machine = (firmware, _board(opened)) if firmware else runner(opened)
    shapes = module_info(opened.manifest).shapes
    looser = rounded_tolerances(opened) if tolerance is None else {}
    if tolerance is None:
        tolerance = TOLERANCES[opened.report["summary"].get("precision", "float32")]
    batches = samples_for(shapes, inputs, samples, seed)
    if not batches:
        raise UsageError("there is nothing to compare", hint="give at least one sample")
    if firmware:
        answers = iter(firmware.run([sample for _, sample in batches]))
        run = lambda _: next(answers)  # noqa: E731 - one program runs all samples
    oracles = {
        number: _oracle(opened, model, _with_shapes(graph, model, shapes[number])) for number, _ in batches
    }
    first = oracles[batches[0][0]]
    total: Comparison | None = None
    for index, (number, sample) in enumerate(batches):
        if progress:
            progress(f"comparing with {first.name}", index, len(batches))
        got = run(sample)  # first: it tells what is wrong with an input
        comparison = compare_outputs(oracles[number].run(sample), got)
        total = comparison if total is None else total.merge(comparison)
    assert total is not None
    quantised = (
        not is_quantised(graph) and opened.optimized is not None and is_quantised(load(opened.optimized))
    )
    return Verification(
        total,
        len(batches),
        first.name,
        machine,
        tolerance,
        first.note,
        same_source,
        quantised,
        firmware.measured if firmware else None,
        looser,
    )


def rounded_tolerances(bundle: Bundle) -> dict[str, float]:
    """Of the outputs behind floats that are rounded to integers on the way: another order of a sum of floats moves some
    of these integers by a step, and what follows by a few, as the self-test allows too."""
    from graphopt.targets.firmware.selftest import ROUNDED

    return dict.fromkeys(bundle.manifest.get("rounded_outputs", ()), ROUNDED)


def _oracle(bundle: Bundle, model: str | Path, graph: Graph) -> Oracle:
    exact = None
    if bundle.target.is_fixed_point:
        exact = fixed_point_oracle(graph, bundle.manifest.get("pipeline"))
    return exact or oracle_for(model, graph)


def _firmware(bundle: Bundle) -> EmulatedFirmware:
    """The bundle built for its board; instructions are counted where the emulator can."""
    from graphopt.targets import emulator
    from graphopt.targets.firmware.emulated import EmulatedFirmware
    from graphopt.targets.instruction_counts import no_plugins

    reason = emulator.missing(bundle.target)
    if reason:
        raise ToolchainError(reason)
    return EmulatedFirmware(bundle, count=no_plugins(bundle.target) is None, selftest=True)


def runner(bundle: Bundle) -> tuple[Run, str]:
    """Something that runs the bundle, natively where this machine can, and what to call it."""
    from graphopt.runtime.module import Module
    from graphopt.targets.emulated import EmulatedModule
    from graphopt.targets.firmware.emulated import EmulatedFirmware

    if bundle.target.is_firmware:
        return EmulatedFirmware(bundle), _board(bundle)
    if not runs_here(bundle.manifest["target"]):
        return Module(bundle.path), "this machine"
    return EmulatedModule(bundle), f"{bundle.target.emulator} -cpu {bundle.target.emulator_cpu}"


def _board(bundle: Bundle) -> str:
    return f"{bundle.target.emulator} -M {bundle.target.emulator_board}"


def random_sample(specs: Sequence[Tensor], seed: int) -> dict[str, np.ndarray]:
    """Arrays of the given types: normal floats, any bytes, other integers from 0 to 7, fair booleans."""
    random = np.random.default_rng(seed)
    sample = {}
    for spec in specs:
        if spec.dtype.is_float:
            sample[spec.name] = random.normal(size=spec.shape).astype(spec.dtype.numpy)
        else:
            low, top = _range(spec.dtype)
            sample[spec.name] = random.integers(low, top, spec.shape).astype(spec.dtype.numpy)
    return sample


def _range(dtype: DType) -> tuple[int, int]:
    """The least integer of a random sample, and the first above."""
    if dtype is DType.bool:
        return 0, 2
    if dtype in (DType.int8, DType.uint8):
        low = -128 if dtype is DType.int8 else 0
        return low, low + 256
    return 0, 8


def samples_for(
    shapes: Sequence[Signature], inputs: Mapping[str, np.ndarray] | None, count: int = 1, seed: int = 0
) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Samples, each with the number of its shape: what `inputs` hold, or `count` random ones of every shape.

    Arrays that have one of the shapes are one sample; others are split into samples of the first shape.
    """
    if inputs is None:
        return [
            (number, random_sample(signature.inputs, seed + index))
            for number, signature in enumerate(shapes)
            for index in range(count)
        ]
    number = shape_of(inputs, shapes)
    if number:
        return [(number, dict(inputs))]
    return [(0, sample) for sample in split_samples(inputs, shapes[0].inputs)]


def split_samples(inputs: Mapping[str, np.ndarray], specs: Sequence[Tensor]) -> list[dict[str, np.ndarray]]:
    """One mapping per sample.

    An array has its input's shape (one sample), or one axis more in front, or many rows where the model takes
    one. Raises UsageError for other shapes, and for inputs with different numbers of samples.
    """
    known = {spec.name: spec for spec in specs}
    counts: dict[str, int] = {}
    stacks: dict[str, np.ndarray] = {}
    for name, array in inputs.items():
        if name not in known:
            hint = did_you_mean(name, known, f"inputs: {', '.join(map(str, specs))}")
            raise UsageError(f"the model has no input '{name}'", hint=hint)
        shape = known[name].shape
        if array.shape == shape:
            stack = array[np.newaxis]
        elif array.shape[1:] == shape:
            stack = array
        elif shape[:1] == (1,) and array.shape[1:] == shape[1:]:
            stack = array[:, np.newaxis]
        else:
            raise UsageError(
                f"its shape is {list(array.shape)}, the model wants {list(shape)} or samples of it",
                where=f"input '{name}'",
            )
        stacks[name], counts[name] = stack, len(stack)
    missing = [spec for name, spec in known.items() if name not in inputs]
    if missing:
        raise UsageError(f"missing input {', '.join(map(str, missing))}", hint="give every input by name")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
        hint = "give each input as many, along a first axis"
        raise UsageError(f"inputs have different numbers of samples: {listed}", hint=hint)
    if 0 in counts.values():
        raise UsageError("there are no samples: an axis is 0 long", hint="give at least one sample")
    return [{n: stack[i] for n, stack in stacks.items()} for i in range(next(iter(counts.values()), 1))]


def _described(model: str | Path, bundle: Bundle) -> tuple[Graph, bool | None]:
    """The model, and whether the bundle was compiled from this very file; None: unknown.

    Raises UsageError when the two have different inputs or outputs.
    """
    from graphopt.api import load, source_fingerprint

    graph = load(model)
    abi = bundle.abi
    theirs = [[(v.name, v.type) for v in graph.inputs]]
    theirs.append([(name, v.type) for name, v in zip(graph.output_names, graph.outputs, strict=True)])
    ours = [[(s.name, TensorType(s.dtype, s.shape)) for s in side] for side in (abi.inputs, abi.outputs)]
    source = bundle.manifest.get("source", {})
    if not all(map(_same_interface, theirs, ours)):
        said = [f"takes {_listed(inputs)} and gives {_listed(outputs)}" for inputs, outputs in (theirs, ours)]
        raise UsageError(
            f"it is another model: it {said[0]}, the bundle {said[1]}",
            where=str(model),
            hint=f"give the model that the bundle was compiled from, {source.get('file', 'or compile again')}",
        )
    same = source_fingerprint(model)["sha256"] == source["sha256"] if "sha256" in source else None
    return graph, same


def _with_shapes(graph: Graph, model: str | Path, shapes: Signature) -> Graph:
    """`graph`, which was read from `model`, with the inputs' shapes."""
    from graphopt.api import load

    if all(value.is_static for value in graph.inputs):
        return graph
    return load(model, input_shapes={spec.name: spec.shape for spec in shapes.inputs})


def _same_interface(theirs: Interface, ours: Interface) -> bool:
    """Open dimensions, and outputs of unknown type, go with any."""
    types = dict(theirs)
    return types.keys() == dict(ours).keys() and all(
        wanted is None or (type is not None and wanted.accepts(type))
        for wanted, type in ((types[name], type) for name, type in ours)
    )


def _listed(side: Interface) -> str:
    return ", ".join(f"{name}: {type}" for name, type in side) or "nothing"
