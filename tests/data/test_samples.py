"""Data in every form that is taken, in the model's batches; and what is refused, in one line that says where."""

from __future__ import annotations

import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from graphopt.data import Samples, open_samples
from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.runtime.manifest import Tensor

IMAGE = (Tensor("x", DType.float32, (1, 3, 2, 5)),)
PAIR = (Tensor("x", DType.float32, (1, 3)), Tensor("state", DType.float32, (2, 1, 4)))

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(7, 3, 2, 5)).astype(np.float32)
XS = RANDOM.normal(size=(5, 3)).astype(np.float32)
STATES = RANDOM.normal(size=(5, 2, 1, 4)).astype(np.float32)


def stacked(samples: Samples) -> np.ndarray:
    """Of a model with one input: all samples; each has the input's shape and type."""
    (spec,) = samples.inputs
    found = [sample[spec.name] for sample in samples]
    assert all(array.shape == spec.shape and array.dtype == spec.dtype.numpy for array in found)
    return np.concatenate(found)


def error_of(data: object, inputs: tuple[Tensor, ...] = IMAGE, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        list(open_samples(data, inputs, **options))  # type: ignore[arg-type]
    return str(caught.value)


def as_npz(path: Path) -> str:
    np.savez(path / "a.npz", images=IMAGES)
    return str(path / "a.npz")


def as_compressed(path: Path) -> str:
    np.savez_compressed(path / "a.npz", x=IMAGES, y=np.arange(7))
    return str(path / "a.npz")


def as_member(path: Path) -> str:
    np.savez(path / "a.npz", train=np.zeros((2, 2)), calib=IMAGES)
    return f"{path}/a.npz:calib"


def as_fortran(path: Path) -> str:
    np.savez(path / "a.npz", x=np.asfortranarray(IMAGES))
    return str(path / "a.npz")


def as_npy(path: Path) -> Path:
    np.save(path / "a.npy", IMAGES)
    return path / "a.npy"


def as_folder(path: Path) -> Path:
    for number, image in enumerate(IMAGES):
        np.save(path / f"{number}.npy", image[None] if number % 2 else image)
    return path


def as_folder_by_input(path: Path) -> Path:
    (path / "x").mkdir()
    for number, image in enumerate(IMAGES):
        np.save(path / "x" / f"{number}.npy", image)
    return path


FORMS = {
    "npz, only array": as_npz,
    "npz, by input name": as_compressed,
    "npz, named array": as_member,
    "npz, Fortran order": as_fortran,
    "npy": as_npy,
    "folder": as_folder,
    "folder for each input": as_folder_by_input,
    "array": lambda path: IMAGES,
    "mapping": lambda path: {"x": IMAGES},
    "with the axis of the batch": lambda path: IMAGES[:, None],
    "list": lambda path: list(IMAGES),
    "list of mappings": lambda path: [{"x": image[None]} for image in IMAGES],
    "list of batches": lambda path: [IMAGES[:2], IMAGES[2:]],
    "function": lambda path: lambda: IMAGES,
    "generator function": lambda path: lambda: (image for image in IMAGES),
    "wider floats that are exact": lambda path: IMAGES.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples_again_and_again(form: str, tmp_path: Path) -> None:
    data = FORMS[form](tmp_path)
    samples = open_samples(data, IMAGE)
    for _ in range(2):
        assert np.array_equal(stacked(samples), IMAGES)
    assert np.array_equal(stacked(open_samples(data, IMAGE, limit=3)), IMAGES[:3])
    assert samples.count == (None if "function" in form or "batches" in form else 7)


def test_an_iterator_is_read_once() -> None:
    samples = open_samples(iter(IMAGES), IMAGE)
    assert np.array_equal(stacked(samples), IMAGES)
    with pytest.raises(UsageError, match="read already.*function that returns a new iterator"):
        list(samples)


@pytest.mark.parametrize("batch, whole", [(2, 6), (3, 6), (7, 7)])
def test_samples_come_in_the_batches_of_the_model(batch: int, whole: int) -> None:
    inputs = (Tensor("x", DType.float32, (batch, 3, 2, 5)),)
    for data in (IMAGES, list(IMAGES), [IMAGES[:4], IMAGES[4:]]):
        assert np.array_equal(stacked(open_samples(data, inputs)), IMAGES[:whole])
    assert open_samples(IMAGES, inputs).count == 7 // batch
    assert "7 samples do not fill the model's batch of 8" in error_of(
        IMAGES, (Tensor("x", DType.float32, (8, 3, 2, 5)),)
    )


@pytest.mark.parametrize("shape", [(), (4,), (1, 1)])
def test_inputs_of_few_axes(shape: tuple[int, ...]) -> None:
    inputs = (Tensor("x", DType.int64, shape),)
    rows = np.arange(3 * int(np.prod(shape))).reshape(3, *shape)
    found = [sample["x"] for sample in open_samples(rows, inputs)]
    assert np.array_equal(np.stack(found), rows)
    assert [sample["x"].shape for sample in open_samples([rows[0]], inputs)] == [shape]


def test_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=XS, state=STATES, labels=np.arange(9))
    for name, rows in (("x", XS), ("state", STATES)):
        (tmp_path / "f" / name).mkdir(parents=True)
        for number, row in enumerate(rows):
            np.save(tmp_path / "f" / name / f"{number}.npy", row)
    rows = [{"x": x, "state": state} for x, state in zip(XS, STATES, strict=True)]
    for data in (tmp_path / "a.npz", tmp_path / "f", {"x": XS, "state": STATES}, rows, lambda: rows):
        samples = list(open_samples(data, PAIR))
        assert len(samples) == 5
        for sample, x, state in zip(samples, XS, STATES, strict=True):
            assert np.array_equal(sample["x"], x[None]) and np.array_equal(sample["state"], state)


def test_arrays_of_the_inputs_shapes_are_one_sample(tmp_path: Path) -> None:
    one = {"x": XS[:1], "state": STATES[0]}
    np.savez(tmp_path / "a.npz", **one)
    for data in (one, tmp_path / "a.npz"):
        (sample,) = open_samples(data, PAIR)
        assert all(np.array_equal(sample[name], array) for name, array in one.items())


def prepared(image: np.ndarray) -> np.ndarray:
    """Bytes, channels last, to floats from 0 to 1, channels first."""
    assert image.dtype == np.uint8 and image.shape == (2, 5, 3)
    return (image.astype(np.float32) / 255).transpose(2, 0, 1)


def test_preprocessing_takes_a_sample_as_it_is_stored(tmp_path: Path) -> None:
    stored = RANDOM.integers(0, 256, (7, 2, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=stored)
    want = np.stack([prepared(image) for image in stored])
    for data in (stored, list(stored), tmp_path / "a.npz", [{"x": image} for image in stored]):
        for preprocess in (prepared, f"{__name__}:prepared"):
            samples = open_samples(data, IMAGE, preprocess=preprocess)
            assert np.array_equal(stacked(samples), want) and samples.count == 7
    assert "preprocess of data, sample 0: it raised AssertionError" in error_of(IMAGES, preprocess=prepared)


def test_types_change_where_that_changes_no_number() -> None:
    small = RANDOM.integers(0, 256, (7, 3, 2, 5))
    for dtype in (np.uint8, np.int64, np.float16):
        assert np.array_equal(stacked(open_samples(small.astype(dtype), IMAGE)), small)
    message = error_of(IMAGES.astype(float) + 1e-12)
    assert "data, sample 0, input 'x': it is float64, the model wants float32" in message
    assert np.array_equal(stacked(open_samples(IMAGES.astype(float) + 1e-12, IMAGE, convert=True)), IMAGES)
    assert "wants uint8" in error_of(IMAGES, (Tensor("x", DType.uint8, (1, 3, 2, 5)),))


def test_a_file_is_read_row_by_row(tmp_path: Path) -> None:
    """A thousand samples of 8 KiB take what a few take."""
    large = np.zeros((1024, 1024, 2), np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=large)
    np.save(tmp_path / "a.npy", large)
    size = large.nbytes
    del large
    for name in ("a.npz", "a.npy"):
        samples = open_samples(tmp_path / name, (Tensor("x", DType.float32, (1, 1024, 2)),))
        tracemalloc.start()
        assert sum(1 for _ in samples) == samples.count == 1024
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 20


def failing() -> Iterator[np.ndarray]:
    yield IMAGES[0]
    raise RuntimeError("the camera is gone")


def leaving() -> Iterator[np.ndarray]:
    yield IMAGES[0]
    sys.exit("no licence")


NOT_A_NUMBER = np.where(np.arange(7).reshape(7, 1, 1, 1) == 4, np.nan, IMAGES).astype(np.float32)

BAD: dict[str, tuple[object, str]] = {
    "no file": ("nowhere.npz", "nowhere.npz: there is no such file"),
    "name": ({"y": IMAGES}, "sample 0: the model has no input 'y'"),
    "missing name": ([{}], r"missing input x: float32\[1, 3, 2, 5\]"),
    "shape": (IMAGES[:, :2], r"input 'x': its shape is \[2, 2, 5\], the model wants \[1, 3, 2, 5\]"),
    "NaN": (NOT_A_NUMBER, "sample 4, input 'x': it holds NaN"),
    "infinity": (np.full_like(IMAGES, -np.inf), "sample 0, input 'x': it holds infinity"),
    "no samples": (IMAGES[:0], "data: there are no samples"),
    "empty list": ([], "data: there are no samples"),
    "objects": (np.array([[1], [1, 2]], object), "it holds Python objects"),
    "records": (np.zeros(3, "f4,i4"), "not real numbers"),
    "complex numbers": (IMAGES * 1j, "it holds complex64, not real numbers"),
    "texts": (["image.png"], "it is str, not an array"),
    "pairs with labels": ([(IMAGES[0], 3)], "it is tuple, not an array .*without labels"),
    "a function that raises": (failing, "function failing: it raised RuntimeError: the camera is gone"),
    "a function that exits": (leaving, r"function leaving: it called sys.exit\('no licence'\)"),
    "a function that returns nothing": (lambda: None, "it returned NoneType, not arrays"),
    "a number": (3, "int is no data"),
    "a module": ("nonsense_of_mine:f", "nonsense_of_mine:f: there is no module 'nonsense_of_mine'"),
    "a function's name": (f"{__name__}:fialing", "has no function 'fialing' .did you mean failing"),
    "what is no function": (f"{__name__}:IMAGES", "'IMAGES' is ndarray, not a function"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(UsageError, match=message):
        list(open_samples(data, IMAGE))


def test_a_module_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_data.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "wrong_data.py").write_text("1 / 0\n")
    (tmp_path / "leaving_data.py").write_text("raise SystemExit\n")
    (tmp_path / "good_data.py").write_text("import numpy\ndef f(): return numpy.ones((2, 3, 2, 5), 'f')\n")
    assert "importing it failed: No module named 'nothing_of_that_name'" in error_of("broken_data:f")
    assert "wrong_data:f: importing it raised ZeroDivisionError" in error_of("wrong_data:f")
    assert "leaving_data:f: importing it called sys.exit()" in error_of("leaving_data:f")
    assert stacked(open_samples("good_data:f", IMAGE)).shape == (2, 3, 2, 5)
    assert "" not in sys.path


def test_bad_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", train=IMAGES, calib=IMAGES)
    assert "it has no array for input 'x'; its arrays: train, calib" in error_of(tmp_path / "two.npz")
    assert "it has no array 'clib' [did you mean calib?]" in error_of(f"{tmp_path}/two.npz:clib")
    assert "'calib' is one array, the model has 2 inputs" in error_of(f"{tmp_path}/two.npz:calib", PAIR)
    np.savez(tmp_path / "uneven.npz", x=XS, state=STATES[:4])
    assert "different numbers of samples: 'x' has 5, 'state' has 4" in error_of(tmp_path / "uneven.npz", PAIR)
    assert "input 'x' has more samples than input 'state'" in error_of(
        [{"x": XS[:3], "state": STATES[:2]}], PAIR
    )
    (tmp_path / "text.npz").write_text("no numbers")
    assert "neither .npy nor .npz" in error_of(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}]))
    assert "objects.npz, array 'x': it holds Python objects" in error_of(tmp_path / "objects.npz")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]))
    assert "objects.npy: it holds Python objects" in error_of(tmp_path / "objects.npy")
    as_npy(tmp_path).write_bytes(as_npy(tmp_path).read_bytes()[:-1])
    assert "a.npy: it is damaged" in error_of(tmp_path / "a.npy")


@pytest.mark.parametrize("cut", [10, 200, 500])
def test_a_cut_archive(cut: int, tmp_path: Path) -> None:
    data = Path(as_npz(tmp_path)).read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:cut])
    assert "cut.npz: it is damaged" in error_of(tmp_path / "cut.npz")


def test_an_archive_with_a_wrong_byte(tmp_path: Path) -> None:
    path = Path(as_npz(tmp_path))
    data = bytearray(path.read_bytes())
    data[data.find(b"\x93NUMPY") + 300] ^= 1
    path.write_bytes(data)
    assert "it is damaged: Bad CRC-32" in error_of(path)


def test_an_archive_member_that_ends_early(tmp_path: Path) -> None:
    as_npy(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "a.npy").read_bytes()[:-5])
    assert "it is damaged: array x ends too early" in error_of(tmp_path / "a.npz")


@pytest.mark.parametrize("form", [as_npz, as_compressed, as_npy])
def test_damaged_files_are_read_or_refused_in_one_line(form: Callable[[Path], str], tmp_path: Path) -> None:
    path = Path(form(tmp_path))
    data, random = path.read_bytes(), np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in random.integers(
            0, min(len(data), random.choice([150, len(data)])), random.integers(1, 4)
        ):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            list(open_samples(path, IMAGE))
        except UsageError as error:
            assert path.name in str(error)
            refused += 1
    assert refused > 50


def test_bad_folders(tmp_path: Path) -> None:
    assert "it has no folder for input 'x'" in error_of(tmp_path)
    (tmp_path / "x").mkdir()
    assert "there are no samples" in error_of(tmp_path)
    (tmp_path / "state").mkdir()
    np.save(tmp_path / "x" / "1.npy", XS[0])
    assert "state: 1.npy is missing, which other inputs have" in error_of(tmp_path, PAIR)
    np.save(tmp_path / "1.npy", XS[0])
    assert "beside folders" in error_of(tmp_path, PAIR)


def test_a_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    first = open_samples(as_npz(tmp_path), IMAGE).fingerprint()
    assert first and first == open_samples(as_npz(tmp_path), IMAGE).fingerprint()
    assert open_samples(as_npz(tmp_path), IMAGE, limit=3).fingerprint() not in ("", first)
    named = open_samples(as_npz(tmp_path), IMAGE, preprocess=f"{__name__}:prepared").fingerprint()
    assert named not in ("", first)
    assert open_samples(as_npz(tmp_path), IMAGE, preprocess=prepared).fingerprint() == ""
    assert open_samples(IMAGES, IMAGE).fingerprint() == ""
