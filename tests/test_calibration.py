"""Ranges from samples: against numpy on all data at once, in little memory, and refused where data are bad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt import passes
from graphopt.analysis.ranges import Range
from graphopt.analysis.ranges_file import load_ranges
from graphopt.calibration import calibrate
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from tests.cli.conftest import network
from tests.passes.helpers import Draft, made
from tests.test_taps import expected

IMAGES = np.random.default_rng(3).normal(size=(9, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graphopt.optimize(graphopt.load(network()), passes.QUANTIZABLE)


@pytest.fixture(scope="module")
def truth(graph: Graph) -> dict[str, np.ndarray]:
    """Every value on all images, along a first axis."""
    all_values = [{"x": image[None], **expected(graph, {"x": image[None]})} for image in IMAGES]
    return {name: np.stack([values[name] for values in all_values]) for name in all_values[0]}


def assert_close(found: np.ndarray, want: np.ndarray, scale: float) -> None:
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= 128 * np.finfo(np.float32).eps * scale


def test_ranges_of_tensors(graph: Graph, truth: dict[str, np.ndarray]) -> None:
    ranges = calibrate(graph, IMAGES)
    assert ranges.observer == "min-max" and ranges.samples == 9 and sorted(ranges) == sorted(truth)
    ranges.check(graph)
    for name, values in truth.items():
        assert ranges[name].axis is None
        assert_close(ranges[name].low, values.min(), np.abs(values).max())
        assert_close(ranges[name].high, values.max(), np.abs(values).max())


def test_ranges_of_channels(graph: Graph, truth: dict[str, np.ndarray]) -> None:
    ranges = calibrate(graph, list(IMAGES), per_channel=True)
    assert {range.axis for range in ranges.values()} == {1}
    for name, values in truth.items():
        others = tuple(axis for axis in range(values.ndim) if axis != 2)
        assert_close(ranges[name].low, values.min(axis=others), np.abs(values).max())
        assert_close(ranges[name].high, values.max(axis=others), np.abs(values).max())
    conv = next(node.output.name for node in graph.nodes if node.op_type == "Conv")
    chosen = calibrate(graph, IMAGES, per_channel={conv: 1}, values=[conv, "x"])
    assert dict(chosen) == {conv: ranges[conv], "x": ranges["x"].whole()}


def test_constants_and_what_follows_from_them_have_no_range() -> None:
    graph = made(lambda g: g.op("Add", g.input(1, 4), g.op("Relu", g.weight(1, 4))))
    ranges = calibrate(graph, np.eye(4, dtype=np.float32))
    assert sorted(ranges) == sorted(["x0", graph.outputs[0].name])


def test_ranges_are_kept_in_a_file(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data.npz", tmp_path / "ranges.json"
    np.savez(data, x=IMAGES)
    found = calibrate(graph, data, cache=cache)
    assert load_ranges(cache) == found
    monkeypatch.setattr("graphopt.calibration.tapped", None)  # nothing runs any more
    assert calibrate(graph, data, cache=cache) == found
    cache.write_text(cache.read_text().replace(f'"low": {found["x"].low}', '"low": -9'))
    assert calibrate(graph, data, cache=cache)["x"].low == -9  # edited by hand
    for changed in ({"observer": "mse"}, {"per_channel": True}, {"data": IMAGES}):
        with pytest.raises(TypeError):
            calibrate(graph, **{"data": data, "cache": cache, **changed})  # type: ignore[arg-type]
    np.savez(data, x=IMAGES[:4])
    with pytest.raises(TypeError):
        calibrate(graph, data, cache=cache)


def test_progress_is_told(graph: Graph) -> None:
    told: list[tuple[str, int, int]] = []
    calibrate(graph, IMAGES, progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "calibrating"] == [("calibrating", n, 9) for n in range(9)]


def reciprocal(g: Draft) -> Value:
    return g.op("Reciprocal", g.op("Relu", g.input(1, 4)))


def with_a_nan() -> np.ndarray:
    images = IMAGES.copy()
    images[5, 0, 0, 0] = np.nan
    return images


def grey_on_one_channel() -> np.ndarray:
    images = IMAGES.copy()
    images[:, 1] = 0.5
    return images


BAD = {
    "names": ({"image": IMAGES}, "data, sample 0: the model has no input 'image' .inputs: x: float32"),
    "shapes": (IMAGES[:, :, :7], r"data, sample 0, input 'x': its shape is \[3, 7, 8\], the model wants"),
    "NaN": (with_a_nan(), "data, sample 5, input 'x': it holds NaN"),
    "nothing": (IMAGES[:0], "data: there are no samples"),
    "one number": (np.full_like(IMAGES, 0.5), "data: 'x' is 0.5.* in all samples.*its range has no width"),
    "a constant channel": (grey_on_one_channel(), "data: channel 1 of 'x' is 0.5 in all samples"),
    "objects": (np.array([None]), "it holds Python objects"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_name_the_tensor_and_write_nothing(case: str, graph: Graph, tmp_path: Path) -> None:
    data, message = BAD[case]
    with pytest.raises(UsageError, match=message):
        calibrate(graph, data, cache=tmp_path / "ranges.json")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_compiled_for_bad_data(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.calibration.tapped", None)
    for case in ("names", "shapes", "nothing"):
        with pytest.raises(UsageError):
            calibrate(graph, BAD[case][0])


def test_constant_channels_may_be_allowed(graph: Graph) -> None:
    ranges = calibrate(graph, grey_on_one_channel(), allow_constant=True, per_channel=True)
    assert ranges["x"].low[1] == ranges["x"].high[1] == 0.5


def test_an_inner_value_that_is_infinite_has_no_range() -> None:
    graph = made(reciprocal)
    data = np.array([[1, 2, 3, 4], [-1, 2, 3, 4]], np.float32)
    with pytest.raises(UsageError, match="data, sample 1, value 'Reciprocal.0': the model makes it infinite"):
        calibrate(graph, data, values=["Reciprocal.0"])
    ranges = calibrate(graph, data)
    assert ranges.left_out == {"Reciprocal.0": "it is infinite in data, sample 1"}
    with pytest.raises(UsageError, match="'Reciprocal.0': it has no range: it is infinite in data, sample 1"):
        ranges["Reciprocal.0"]


def test_an_inner_value_that_is_dead_has_no_range(tmp_path: Path) -> None:
    graph = made(lambda g: g.op("Relu", g.input(1, 4)))
    data, cache = -np.abs(IMAGES[:, 0, 0, :4]), tmp_path / "ranges.json"
    with pytest.raises(UsageError, match="'Relu.0' is 0 in all samples.*allow_constant"):
        calibrate(graph, data, values=["Relu.0"], cache=cache)
    assert not cache.exists()
    ranges = calibrate(graph, data, cache=cache)
    assert sorted(ranges) == ["x0"] and ranges.left_out == {"Relu.0": "it is 0 in all samples"}
    assert load_ranges(cache) == ranges
    assert calibrate(graph, data, allow_constant=True)["Relu.0"] == Range(np.asarray(0.0), np.asarray(0.0))


def nan_inside(g: Draft) -> Value:
    return g.op("Log", g.input(1, 4))


def test_an_inner_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="data, sample 0, value 'Log.0': the model makes it NaN"):
        calibrate(made(nan_inside), np.array([[1, 2, 3, -4]], np.float32))


def test_values_that_cannot_be_calibrated(graph: Graph) -> None:
    with pytest.raises(UsageError, match="the graph has no value 'X' .did you mean x"):
        calibrate(graph, IMAGES, values=["X"])
    with pytest.raises(UsageError, match="per_channel: 'y' is not calibrated"):
        calibrate(graph, IMAGES, values=["x"], per_channel={"y": 1})
    with pytest.raises(UsageError, match="there is no observer 'minmax' .did you mean min-max"):
        calibrate(graph, IMAGES, observer="minmax")
    integers = made(lambda g: g.op("Cast", g.input(1, 4), to=7))
    with pytest.raises(UsageError, match="it is int64; only floats have ranges"):
        calibrate(integers, IMAGES[:, 0, 0, :4], values=[integers.outputs[0].name])


TEN_THOUSAND = """
import sys
import resource
import numpy as np
import graphopt
from graphopt.calibration import calibrate
from tests.passes.helpers import made

graph = made(lambda g: g.op("Relu", g.op("Relu", g.input(1, 64, 64))))
def images(count):
    few = np.random.default_rng(0).normal(size=(16, 1, 64, 64)).astype(np.float32)
    return lambda: (few[number % 16].copy() for number in range(count))
observer = sys.argv[1]
calibrate(graph, images(20), observer=observer)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)
ranges = calibrate(graph, images(10_000), observer=observer)
assert ranges.samples == 10_000
assert ranges["x0"].high > 3
"""
"""A sample is 16 KiB, ten thousand are 156 MiB; the limit is 32 MiB above what a few took."""


@pytest.mark.parametrize("observer", ["min-max", "mse"])
def test_ten_thousand_samples_take_the_memory_of_one(observer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TEN_THOUSAND, observer],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
