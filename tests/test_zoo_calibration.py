"""Ranges of trained models on their own data, against the numpy reference on every sample."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from bench.tasks import TASKS
from graphopt import passes
from graphopt.calibration import calibrate
from graphopt.data import open_samples
from tests.test_taps import expected
from tests.zoo import ZOO, zoo_model

pytestmark = pytest.mark.zoo

SAMPLES = 3
TOLERANCE = 1e-4
"""Of the scale of a value: sums of up to a few thousand products, through all layers."""

MODELS = {
    "mlperf_resnet8_bn_op17": "images as bytes, channels last",
    "pkg_magika_v3_3_b1": "integers, embedding, normalisation of rows",
    "trn_mnist_lstm_op17": "a recurrence",
}


@pytest.mark.parametrize("name", MODELS)
def test_ranges_are_those_of_the_reference(name: str) -> None:
    graph = graphopt.optimize(graphopt.load(zoo_model(name)), passes.QUANTIZABLE)
    file, prepare = next((file, prepare) for prefix, file, prepare in TASKS if name.startswith(prefix))
    with np.load(ZOO / "evalsets" / file) as arrays:
        key = "calib_x" if "calib_x" in arrays else "x"
    data = open_samples(
        f"{ZOO}/evalsets/{file}:{key}", graph, preprocess=lambda x: prepare(x[np.newaxis]), limit=SAMPLES
    )
    ranges = calibrate(graph, data)
    assert ranges.samples == SAMPLES
    seen = [{**sample, **expected(graph, sample)} for sample in data]
    assert len(ranges) > 10
    for value, range in ranges.items():
        low = min(values[value].min() for values in seen)
        high = max(values[value].max() for values in seen)
        limit = TOLERANCE * max(abs(low), abs(high))
        assert abs(range.low - low) <= limit and abs(range.high - high) <= limit, value
