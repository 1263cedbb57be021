"""`graphopt run`: a bundle's outputs for given inputs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import INPUTS_HELP, BundleArgument, Json, Threads
from graphopt.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from graphopt.runtime.module import Module
    from graphopt.targets.emulated import EmulatedModule
    from graphopt.targets.firmware.emulated import EmulatedFirmware

SHOWN_VALUES = 6
"""Values of an output that the table shows."""


class Place(enum.StrEnum):
    """Where a bundle runs."""

    here = "here"
    qemu = "qemu"


def run(
    bundle: BundleArgument,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="FILE.npz", help=INPUTS_HELP),
    ] = None,
    single: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE.npy", help="One input's array. Repeatable."),
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Make the inputs up.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --random.")] = 0,
    on: Annotated[
        Place, typer.Option("--on", help="This machine, or an emulation of the bundle's.")
    ] = Place.here,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT.npz", help="Save the outputs.")
    ] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Run BUNDLE on arrays and show its outputs. --random takes the first shape of a bundle for several.

    Example: `graphopt run model.bundle --input x=image.npy --out result.npz`
    """
    from graphopt.cli.arrays import file_of, read_inputs, read_npz, write_npz
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.report.tables import show, show_json
    from graphopt.verification import samples_for

    given = [
        name for name, value in (("--inputs", inputs), ("--input", single), ("--random", random)) if value
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="give one of them")
    check_place(out, inputs and file_of(inputs))
    module = _module(bundle, on)
    shapes = module.info.shapes
    specs = shapes[0].inputs
    if not given and specs:
        hint = "use --inputs FILE.npz, --input NAME=FILE.npy or --random"
        raise UsageError(f"no inputs are given; the model takes {', '.join(map(str, specs))}", hint=hint)
    if threads is not None:
        module.set_num_threads(threads)
    names = [spec.name for spec in specs]
    if random or not specs:
        arrays = None
    else:
        arrays = read_npz(inputs, names) if inputs else read_inputs(single or (), names)
    samples = [
        sample for _, sample in samples_for(shapes[:1] if arrays is None else shapes, arrays, seed=seed)
    ]
    outputs = []
    with progress(quiet=json) as step:
        for index, sample in enumerate(samples):
            step("running", index, len(samples))
            outputs.append(module(sample))
    results = _stacked(outputs)
    if out is not None:
        write_npz(out, results)
    if json:
        show_json({"samples": len(samples), "outputs": [_data(n, a) for n, a in results.items()]})
    else:
        show(*_tables(results, len(samples), out))


def _module(path: Path, on: Place) -> Module | EmulatedModule | EmulatedFirmware:
    """The bundle, ready to run. Raises UsageError when it is for another machine and `on` does not say so."""
    from graphopt.runtime.module import Module

    if on is Place.here:
        return Module(path)
    from graphopt.targets.bundle import Bundle
    from graphopt.targets.emulated import EmulatedModule
    from graphopt.targets.firmware.emulated import EmulatedFirmware

    bundle = Bundle.open(path)
    if bundle.target.is_native:
        raise UsageError("it is for this machine, which needs no emulation", hint="leave out --on qemu")
    if bundle.target.is_firmware:
        return EmulatedFirmware(bundle)
    return EmulatedModule(bundle)


def _stacked(outputs: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One sample as it is; several with an axis in front, or along a first axis of one."""
    import numpy as np

    if len(outputs) == 1:
        return outputs[0]
    arrays = {}
    for name, first in outputs[0].items():
        join = np.concatenate if first.shape[:1] == (1,) else np.stack
        arrays[name] = join([output[name] for output in outputs])
    return arrays


def _tables(arrays: dict[str, np.ndarray], samples: int, out: Path | None) -> list[Any]:
    from graphopt.report.tables import table

    rows = [
        [name, f"{array.dtype}{list(array.shape)}", _first_values(array), _largest(array)]
        for name, array in arrays.items()
    ]
    title = f"{samples} samples" if samples > 1 else ""
    made: list[Any] = [table(title, ("output", "type", "first values", "largest at"), rows)]
    return made if out is None else [*made, f"saved to {out}"]


def _data(name: str, array: np.ndarray) -> dict[str, Any]:
    import numpy as np

    values = array.astype(np.float64) if array.dtype.kind not in "biufO" else array
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "argmax": _argmax(array),
        "values": values.tolist(),
    }


def _first_values(array: np.ndarray) -> str:
    from graphopt.report.tables import cell

    flat = array.reshape(-1)
    shown = [cell(value.item()) for value in flat[:SHOWN_VALUES]]
    return ", ".join(shown) + (", ..." if flat.size > SHOWN_VALUES else "")


def _argmax(array: np.ndarray) -> int | list[int] | None:
    """Along the last axis: a number for one row, a list for several; None for scalars and empty arrays."""
    if array.ndim == 0 or array.size == 0:
        return None
    found = array.argmax(axis=-1).reshape(-1)
    return int(found[0]) if found.size == 1 else found.tolist()


def _largest(array: np.ndarray) -> str:
    found = _argmax(array)
    if isinstance(found, list):
        more = ", ..." if len(found) > SHOWN_VALUES else ""
        return ", ".join(map(str, found[:SHOWN_VALUES])) + more
    return "" if found is None or array.shape[-1] == 1 else str(found)
