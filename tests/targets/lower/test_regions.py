"""RoiAlign and DeformConv against onnx.reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from graphopt.errors import UnsupportedError
from tests.targets.lower.kernels import Outputs, assert_close, case, names, run_cases

RANDOM = np.random.default_rng(9)

TOLERANCE = 4e-6
"""float32: places of up to 8 elements are rounded to 2^-24 of themselves, which moves a value between neighbours that
differ by up to four times the result's scale; and up to 18 products are added."""


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


X = normal(2, 3, 8, 7)
ROIS = np.asarray([[0, 0, 6, 6], [1.5, 2.25, 13, 9], [-3, -2, 4, 1], [20, 20, 24, 26]], np.float32)
BATCHES = np.asarray([0, 1, 1, 0])
W, GROUPED = normal(4, 3, 2, 3), normal(4, 2, 2, 3)
OFFSET = normal(2, 12, 7, 5) * 2
MASK = normal(2, 6, 7, 5)

REGIONS = [
    case(
        "RoiAlign",
        X,
        ROIS,
        BATCHES,
        output_height=3,
        output_width=2,
        sampling_ratio=2,
        spatial_scale=0.5,
        mode=mode,
        coordinate_transformation_mode=transformation,
    )
    for mode, transformation in product(("avg", "max"), ("half_pixel", "output_half_pixel"))
]

CONVOLUTIONS = [
    case("DeformConv", X, W, OFFSET, normal(4), MASK, kernel_shape=(2, 3)),
    case("DeformConv", X, W, OFFSET[:, :, :4, :4], strides=(2, 2), pads=(0, 1, 1, 1), kernel_shape=(2, 3)),
    case(
        "DeformConv",
        normal(2, 4, 8, 7),
        GROUPED,
        normal(2, 24, 7, 5),
        group=2,
        offset_group=2,
        kernel_shape=(2, 3),
    ),
]

CASES = [*REGIONS, *CONVOLUTIONS]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_kernel(number: int, results: list[Outputs]) -> None:
    assert_close(results[number], CASES[number], TOLERANCE)


def test_samples_that_depend_on_the_region_are_refused() -> None:
    node = case("RoiAlign", X, ROIS, BATCHES, output_height=1, output_width=1, expected=[normal(4, 3, 1, 1)])
    with pytest.raises(UnsupportedError, match="the number of samples depends on the data"):
        run_cases([node])
