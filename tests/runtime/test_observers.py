"""Observers, sample by sample, against numpy on all data at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.runtime.observers import OBSERVERS, Watch, as_channels, observer_named
from graphopt.runtime.observers.entropy import entropy_threshold
from graphopt.runtime.observers.histogram import Histogram

RANDOM = np.random.default_rng(11)

Stream = Sequence[np.ndarray]


def normal(*scales: float, offset: float = 0.0, shape: tuple[int, ...] = (1, 3, 101)) -> Stream:
    return [(RANDOM.normal(size=shape) * scale + offset).astype(np.float32) for scale in scales]


STREAMS: dict[str, Stream] = {
    "alike": normal(1, 1, 1),
    "ever wider": normal(1, 30, 1000, 1e6),
    "ever narrower": normal(1000, 1, 1e-3),
    "to one side": [np.abs(x) for x in normal(1, 2, 3)],
    "to the other": [-np.abs(x) for x in normal(1, 2, 3)],
    "far from zero": normal(1, 2, offset=1000),
    "wandering": [x + 7 * n for n, x in enumerate(normal(1, 1, 1, 1, 1, 1))],
    "constant at first": [np.full((1, 3, 101), 0.3, np.float32), *normal(1e-6, 1)],
    "channels of their own scales": [
        x * np.array([[[1e-4], [1], [1e4]]], np.float32) for x in normal(1, 2, 3)
    ],
    "mostly zeros": [np.maximum(x, 0) for x in normal(1, 1, 1, offset=-1.5)],
    "huge": normal(1e37, 3e37),
    "denormal": normal(1e-40, 1e-39),
    "one element": normal(1, 2, 3, shape=(1, 3, 1)),
    "in float64": [x.astype(np.float64) / 3 for x in normal(1, 5)],
}


def observed(name: str, stream: Stream, axis: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    watch = Watch(observer_named(name), {"x": axis})
    for number, array in enumerate(stream):
        watch.look({"x": array}, f"sample {number}")
    found = watch.ranges()["x"]
    assert found.axis == axis and found.low.dtype == found.high.dtype == np.float64
    return found.low, found.high


def counted(stream: Stream, bins: int, *, with_zero: bool = False, axis: int | None = 1) -> Histogram:
    histogram = Histogram(bins, with_zero=with_zero)
    for array in stream:
        channels = as_channels(array, axis)
        histogram.add(channels, channels.min(axis=1), channels.max(axis=1))
    return histogram


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("bins", [8, 50, 2048])
def test_a_histogram_counts_as_numpy_does_on_all_data(case: str, bins: int) -> None:
    everything = np.concatenate([as_channels(array, 1) for array in STREAMS[case]], axis=1).astype(np.float64)
    for stream in (STREAMS[case], STREAMS[case][::-1]):
        for with_zero in (False, True):
            histogram = counted(stream, bins, with_zero=with_zero)
            for channel, numbers in enumerate(everything):
                edges = histogram.edges(channel)
                places = np.floor(numbers / histogram.widths[channel]) - round(
                    edges[0] / histogram.widths[channel]
                )
                assert np.array_equal(
                    histogram.counts[channel], np.bincount(places.astype(int), minlength=bins)
                )
                span = np.ptp([*numbers, 0] if with_zero else numbers)
                assert histogram.widths[channel] <= max(2 * span / (bins - 2), 2.0**-100)
                assert edges[0] <= numbers.min() and numbers.max() < edges[-1]


def test_a_histogram_does_not_grow_with_its_data() -> None:
    few, many = counted(normal(1, 1), 64), counted(normal(*[1] * 500), 64)
    assert few.counts.shape == many.counts.shape == (3, 64)
    assert many.counts.sum() == 500 * 3 * 101


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("name", OBSERVERS)
def test_channels_are_observed_each_for_itself(name: str, case: str) -> None:
    low, high = observed(name, STREAMS[case], 1)
    alone = [observed(name, [array[:, channel] for array in STREAMS[case]]) for channel in range(3)]
    assert np.array_equal(low, [bounds[0] for bounds in alone])
    assert np.array_equal(high, [bounds[1] for bounds in alone])
    moved = [np.moveaxis(array, 1, -1) for array in STREAMS[case]]
    for found, want in zip(observed(name, moved, 2), (low, high), strict=True):
        assert np.array_equal(found, want)


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("name", OBSERVERS)
def test_a_range_lies_within_what_was_seen(name: str, case: str) -> None:
    low, high = observed(name, STREAMS[case])
    everything = np.concatenate([array.reshape(-1) for array in STREAMS[case]])
    assert low <= high
    if name == "mse":  # it always holds zero
        everything = np.append(everything, 0)
    assert everything.min() <= low and high <= everything.max()
    if name == "min-max":
        assert (low, high) == (everything.min(), everything.max())


def test_the_moving_average_is_that_of_the_formula() -> None:
    stream = normal(1, 5, 2)
    low, high = observed("moving-average{constant=0.25}", stream)
    weights = np.array([0.75**2, 0.75 * 0.25, 0.25])
    assert low == pytest.approx(weights @ [array.min() for array in stream], rel=1e-12)
    assert high == pytest.approx(weights @ [array.max() for array in stream], rel=1e-12)


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("percent, bins", [(99.9, 2048), (90, 2048), (90, 16), (100, 8)])
def test_percentiles_are_those_of_all_data_within_a_bin(case: str, percent: float, bins: int) -> None:
    low, high = observed(f"percentile{{percent={percent} bins={bins}}}", STREAMS[case])
    numbers = np.concatenate([array.reshape(-1) for array in STREAMS[case]]).astype(np.float64)
    cut = (100 - percent) / 200
    bound = max(2 * np.ptp(numbers) / (bins - 2), 2.0**-100)
    ordered, dropped = np.sort(numbers), int(cut * len(numbers))
    exact_low, exact_high = ordered[dropped], ordered[len(numbers) - dropped - 1]
    assert exact_low - bound <= low <= exact_low and exact_high <= high <= exact_high + bound
    assert np.mean(numbers < low) <= cut and np.mean(numbers > high) <= cut


def divergence(counts: Sequence[int], bins: int, levels: int) -> float:
    """Of what is clipped at the end of `bins` and then in so many levels from what is clipped only, bin by bin."""
    reference = [float(count) for count in counts[:bins]]
    quantised = [0.0] * bins
    for level in range(levels):
        members = range(level * bins // levels, (level + 1) * bins // levels)
        filled = [place for place in members if reference[place]]
        for place in filled:
            quantised[place] = sum(reference[p] for p in members) / len(filled)
    reference[-1] += sum(counts[bins:])
    p, q = (np.maximum(side, 1e-4) for side in (reference, quantised))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize(
    "case", ["alike", "to one side", "to the other", "mostly zeros", "wandering", "ever wider"]
)
def test_the_threshold_has_the_least_divergence_of_all(case: str) -> None:
    low, high = observed("entropy{bits=3 bins=64}", STREAMS[case])
    numbers = np.concatenate([array.reshape(-1) for array in STREAMS[case]]).astype(np.float64)
    width = counted([numbers[None]], 64, with_zero=True, axis=None).widths[0]
    places = np.floor(numbers / width).astype(int)
    counts = np.bincount(np.where(places < 0, -places - 1, places)).tolist()
    counts[0] = counts[1]  # zero is exact
    levels = 4 if numbers.min() < 0 < numbers.max() else 8
    thresholds = range(levels, len(counts) + 1)
    best = min(thresholds, key=lambda bins: divergence(counts, bins, levels)) * width
    assert (low, high) == (max(numbers.min(), -best), min(numbers.max(), best))


def test_what_a_relu_cuts_does_not_decide_on_the_threshold() -> None:
    """Nine of ten numbers are zero; the threshold is that of the others."""
    numbers = np.abs(RANDOM.normal(size=(1, 1, 20_000)))
    with_zeros = np.concatenate([numbers, np.zeros((1, 1, 180_000))], axis=2)
    assert observed("entropy", [with_zeros]) == (0, observed("entropy", [numbers])[1])


@pytest.mark.parametrize("degrees", [3, 5])
def test_the_threshold_is_near_that_of_onnx_runtime(degrees: int) -> None:
    """It smooths otherwise, and its levels are all as wide as the number of bins that goes into them."""
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    numbers = np.random.default_rng(1).standard_t(degrees, 100_000)
    edge = np.abs(numbers).max()
    counts, edges = np.histogram(numbers, 511, (-edge, edge))
    collector = calibrate.HistogramCollector("entropy", True, 511, 128, 99.99, {})
    theirs = collector.get_entropy_threshold((counts, edges, -edge, edge, edge), 128)[1]
    magnitudes = np.histogram(np.abs(numbers), 256, (0, edge))[0]
    ours = entropy_threshold(magnitudes, 64) * edge / 256
    assert ours == pytest.approx(float(theirs), rel=0.2)
    assert ours < 0.55 * edge


def squared_error(numbers: np.ndarray, low: float, high: float, levels: int) -> float:
    """Of quantising to steps from 0 to `levels` and back, as ONNX defines it, in float64."""
    scale = (high - low) / levels
    zero_point = np.rint(-low / scale)
    quantised = np.clip(np.rint(numbers / scale) + zero_point, 0, levels)
    return float((((quantised - zero_point) * scale - numbers) ** 2).mean())


LONG = {
    "normal": RANDOM.normal(size=20_000),
    "long tails": RANDOM.standard_t(3, 20_000),
    "to one side": np.maximum(RANDOM.standard_t(3, 20_000), 0),
    "uneven": np.where(
        RANDOM.random(20_000) < 0.5, RANDOM.exponential(3, 20_000), -0.2 * RANDOM.random(20_000)
    ),
    "an outlier": np.append(RANDOM.normal(size=19_999), 200),
}


@pytest.mark.parametrize("case", LONG)
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_no_other_range_has_a_smaller_squared_error(case: str, bits: int) -> None:
    """Within 2 %, of a grid of 40 x 40 ranges, on all numbers one by one."""
    numbers, levels = LONG[case], 2**bits - 1
    low, high = observed(f"mse{{bits={bits}}}", numbers.reshape(8, 1, -1))
    shares = 2.0 ** -(np.arange(40) / 5)
    widest = min(numbers.min(), 0), max(numbers.max(), 0)
    grid = [
        (a * widest[0], b * widest[1])
        for a, b in itertools.product(shares if widest[0] else [1], shares if widest[1] else [1])
    ]
    best = min(squared_error(numbers, a, b, levels) for a, b in grid)
    assert squared_error(numbers, float(low), float(high), levels) <= 1.02 * best


def test_a_symmetric_range_is_symmetric() -> None:
    low, high = observed("mse{bits=4 symmetric=true}", [LONG["uneven"]])
    assert low == -high
    tried = np.linspace(0.05, 1, 200) * np.abs(LONG["uneven"]).max()
    best = min(squared_error(LONG["uneven"], -t, t, 14) for t in tried)
    assert squared_error(LONG["uneven"], float(low), float(high), 14) <= 1.02 * best


@pytest.mark.parametrize("name", OBSERVERS)
def test_numbers_that_are_all_zero(name: str) -> None:
    assert observed(name, [np.zeros((2, 3), np.float32)]) == (0, 0)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("kl", "there is no observer 'kl' .there are entropy, min-max"),
        ("percentil", "did you mean percentile"),
        ("percentile{percent=0}", "percentile: percent is 0, not above 50"),
        ("percentile{bins=2}", "2 bins are too few"),
        ("percentile{share=3}", "observer 'percentile' has no option 'share' .options: bins, percent"),
        ("moving-average{constant=2}", "constant is 2, not above 0"),
        ("entropy{bits=8 bins=128}", "128 bins are too few for 8 bits .give 512"),
        ("mse{bits=1}", "1 bits are none of 2 to 16"),
        ("min-max,mse", "'min-max,mse' is no observer"),
    ],
)
def test_observers_that_there_are_not(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        observer_named(spec)


def test_an_observer_is_its_text() -> None:
    for text in (*OBSERVERS, "percentile{percent=99.5 bins=512}", "mse{bits=4 symmetric=true}"):
        assert str(observer_named(text)) == text and observer_named(observer_named(text)) == observer_named(
            text
        )


@pytest.mark.parametrize("number, kind", [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_numbers_that_are_not_finite_are_refused(number: float, kind: str) -> None:
    for axis in (None, 1):
        array = np.ones((1, 3, 4), np.float32)
        array[0, 1, 2] = number
        with pytest.raises(UsageError, match=f"sample 0, value 'x': the model makes it {kind}"):
            observed("min-max", [array], axis)


def test_half_precision_is_observed_as_it_is() -> None:
    array = RANDOM.normal(size=(1, 3, 50)).astype(np.float16)
    assert observed("mse", [array]) == observed("mse", [array.astype(np.float32)])


def test_constants_are_found() -> None:
    watch = Watch(observer_named("mse"), {"a": None, "b": 1, "c": 1})
    flat = np.array([[1.0, 2.0]], np.float32)
    for number in range(3):
        watch.look({"a": flat * 0, "b": flat + [0, number], "c": flat[:, :1]}, "")
    assert list(map(str, watch.constants())) == ["'a' is 0", "'c' is 1"]
    assert list(map(str, watch.constants(channels=True))) == ["'a' is 0", "channel 0 of 'b' is 1", "'c' is 1"]
