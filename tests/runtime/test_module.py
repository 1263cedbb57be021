"""A library in this process: its contract, what callers do wrong, threads, and replaced files."""

from __future__ import annotations

import gc
import json
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.runtime.arguments import fitting
from graphopt.runtime.manifest import Tensor, runs_here
from graphopt.runtime.module import Module
from tests.copy_model import EVERY_TYPE, abi_of, copy_bundle, random_arrays

IMAGE = Tensor("image", DType.float32, (2, 3))
COUNT = Tensor("count", DType.int64, ())


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    """Its outputs are its inputs."""
    return Module(copy_bundle(tmp_path_factory.mktemp("copied") / "b.bundle", abi_of((IMAGE, COUNT))).path)


def good() -> dict[str, np.ndarray]:
    return {"image": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7)}


def test_every_type(tmp_path: Path) -> None:
    abi = abi_of(EVERY_TYPE)
    arrays = random_arrays(abi)
    outputs = Module(copy_bundle(tmp_path / "every.bundle", abi).path)(arrays)
    for spec in EVERY_TYPE:
        got = outputs[f"y of {spec.name}"]
        assert got.dtype == spec.dtype.numpy
        assert got.tobytes() == arrays[spec.name].tobytes()


def test_what_it_says_of_itself(module: Module) -> None:
    info = module.info
    assert [str(t) for t in info.inputs] == ["image: float32[2, 3]", "count: int64[]"]
    assert [t.name for t in info.outputs] == ["y of image", "y of count"]
    assert (info.workspace_bytes, info.default_threads) == (256, 2)
    assert repr(module).startswith(
        "Module copied for host: (image: float32[2, 3], count: int64[]) -> (y of image"
    )


def test_arrays_of_any_layout(module: Module) -> None:
    """Strided, reversed, unaligned, read-only, in another order of names, or plain Python lists of the right type."""
    image = good()["image"]
    unaligned = np.frombuffer(b"\0" + image.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    frozen = image.copy()
    frozen.flags.writeable = False
    for same in (
        np.asfortranarray(image),
        image[::-1].copy()[::-1],
        unaligned,
        frozen,
        np.repeat(image, 2, 1)[:, ::2],
    ):
        outputs = module({"count": np.array(7), "image": same})
        assert np.array_equal(outputs["y of image"], image)
        assert outputs["y of count"] == 7
    assert outputs["y of image"].base is None


def test_usual_arrays_are_looked_at_once(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits as it is takes the short way; what must be copied does not."""
    taken: list[object] = []

    def watched(inputs: dict[str, np.ndarray], shapes: object) -> object:
        taken.append(inputs)
        return fitting(inputs, shapes)  # type: ignore[arg-type]

    monkeypatch.setattr("graphopt.runtime.module.fitting", watched)
    first, second = module(good()), module(good())
    assert not taken
    assert first["y of image"] is not second["y of image"]
    assert not np.shares_memory(first["y of image"], second["y of image"])
    image = good()["image"]
    assert np.array_equal(module(frozen(good()))["y of image"], image)
    assert not taken
    unaligned = np.frombuffer(bytearray(b"\0" + image.tobytes()), np.uint8)[1:].view(np.float32).reshape(2, 3)
    strided = frozen({"image": np.repeat(image, 2, 1)[:, ::2]})["image"]
    fixed = frozen({"image": unaligned})["image"]
    for number, other in enumerate((unaligned, np.asfortranarray(image), strided, fixed), 1):
        inputs = {"image": other, "count": np.array(7)}
        assert np.array_equal(module(inputs)["y of image"], image)
        assert len(taken) == number


def frozen(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, which may not be written."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@pytest.mark.parametrize("made", [good, lambda: frozen(good())], ids=["writable", "read-only"])
def test_an_array_cannot_go_while_it_is_read(
    module: Module, made: Callable[[], dict[str, np.ndarray]]
) -> None:
    """It is kept: another thread may empty the dictionary while the model runs."""
    inputs = made()
    shape = module._shapes[0]
    run = shape._function

    def emptied(*arguments: object) -> int:
        inputs.clear()
        gc.collect()
        np.full((2, 3), 9, np.float32)  # would get the memory of the image
        return run(*arguments)

    shape._function = emptied
    try:
        assert np.array_equal(module(inputs)["y of image"], good()["image"])
    finally:
        shape._function = run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgae": np.zeros(1)}, r"the model has no input 'imgae' \[did you mean image\?\]"),
        ({"zzz": np.zeros(1)}, r"no input 'zzz' \[inputs: image: float32\[2, 3\], count: int64\[\]\]"),
        ({"image": None}, r"missing input image: float32\[2, 3\] \[give every input by name\]"),
        (
            {"image": np.zeros((3, 2), np.float32)},
            r"input 'image': its shape is \[3, 2\], the model wants \[2, 3\]",
        ),
        ({"image": np.zeros((1, 2, 3), np.float32)}, r"its shape is \[1, 2, 3\], the model wants \[2, 3\]"),
        ({"count": np.zeros(1, np.int64)}, r"input 'count': its shape is \[1\], the model wants \[\]"),
        (
            {"image": np.zeros((2, 3))},
            r"it is float64, the model wants float32 \[convert it: array\.astype",
        ),
        ({"image": np.zeros((2, 3), ">f4")}, "it is >f4, the model wants float32"),
        ({"image": [[1.0], [2.0, 3.0]]}, "input 'image': it is no array"),
        ({"image": "text"}, "input 'image': it is <U4, the model wants float32"),
    ],
)
def test_wrong_arguments(module: Module, change: dict[str, object], message: str) -> None:
    arguments = {name: array for name, array in {**good(), **change}.items() if array is not None}
    with pytest.raises(UsageError, match=message):
        module(arguments)  # type: ignore[arg-type]
    assert np.array_equal(module(good())["y of image"], good()["image"]), "it works afterwards"


def test_not_a_mapping(module: Module) -> None:
    with pytest.raises(UsageError, match=r"inputs are given as \{name: array\}, not as list \[inputs: image"):
        module([np.zeros((2, 3), np.float32)])  # type: ignore[arg-type]


def test_thread_count(module: Module) -> None:
    for count in (0, -1):
        with pytest.raises(UsageError, match=rf"{count} threads cannot run anything \[give 1 or more\]"):
            module.set_num_threads(count)
    module.set_num_threads(3)
    assert np.array_equal(module(good())["y of image"], good()["image"])


def test_many_threads_at_once(module: Module) -> None:
    """Each call has its own arrays and its own workspace."""
    wrong: list[int] = []

    def work(number: int) -> None:
        image = np.full((2, 3), number, np.float32)
        for _ in range(200):
            outputs = module({"image": image, "count": np.array(number)})
            if not (np.array_equal(outputs["y of image"], image) and outputs["y of count"] == number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(module._frames) <= 8


def test_compiled_again_at_the_same_place(tmp_path: Path) -> None:
    """The linker knows a library by its path; the new one must be the one that runs, and the old one goes on."""
    path = tmp_path / "again.bundle"
    old = Module(copy_bundle(path, abi_of((IMAGE,))).path)
    new = Module(copy_bundle(path, abi_of((IMAGE,)), factor=2).path)
    image = {"image": good()["image"]}
    assert np.array_equal(old(image)["y of image"], image["image"])
    assert np.array_equal(new(image)["y of image"], 2 * image["image"])


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a bundle: manifest\.json cannot be read \(No such file"):
        Module(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"manifest\.json is damaged \[compile again\]"):
        Module(tmp_path)


def test_another_version_of_the_contract(tmp_path: Path) -> None:
    path = copy_bundle(tmp_path / "old.bundle", abi_of((IMAGE,))).path
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["contract"]["abi_version"] += 1
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UsageError, match=r"the library has ABI version \d+, its manifest \d+ \[compile again\]"
    ):
        Module(path)


def test_where_it_runs() -> None:
    here = {"triple": f"{platform.machine()}-linux-gnu", "cpu_flags": []}
    assert runs_here(here) == ""
    assert (
        runs_here({**here, "cpu_flags": ["flag_of_no_processor"]})
        == "this processor lacks flag_of_no_processor"
    )
    assert (
        runs_here({"triple": "riscv64-linux-gnu", "cpu_flags": []}) == f"this machine is {platform.machine()}"
    )
