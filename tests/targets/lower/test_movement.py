"""Kernels that move elements: bit for bit what the reference evaluator says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.targets.lower.data import HIGHEST, LOWEST, data
from tests.targets.lower.kernels import Outputs, assert_same, case, kernel_of, names, run_cases

HALF, BYTE, LONG, BOOL = np.float16, np.int8, np.int64, np.bool_

TWICE = data(4, 5, 6)
CUT = data(3, 5, dtype=BYTE)
IMAGE = data(1, 3, 6, 8)


def blocks_last(x: np.ndarray) -> np.ndarray:
    """SpaceToDepth by blocks of 2 x 2, the depth in the order (C, 2, 2): new in opset 28."""
    n, c, h, w = x.shape
    taps = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return taps.reshape(n, c * 4, h // 2, w // 2)


COPIES = [
    case("Concat", data(3, 5), data(3, 7), data(3, 1), axis=1),
    case("Concat", data(2, 3, dtype=BYTE), data(0, 3, dtype=BYTE), data(5, 3, dtype=BYTE), axis=-2),
    case("Concat", data(4, dtype=BOOL), data(9, dtype=BOOL), axis=0),
    case("Concat", data(2, 3, 17, 19, dtype=HALF), data(2, 5, 17, 19, dtype=HALF), axis=1),
    case("Concat", data(64, 700), data(64, 31), axis=1),
    case("Concat", data(700, 64), data(31, 64), axis=0),
    case("Concat", TWICE, TWICE, axis=2),
    case("Concat", data(1), data(1), axis=0, fixed=(1,)),
    case("Compress", TWICE, np.array([False, True, True, False, True]), axis=1),
    case("Compress", TWICE, data(100, dtype=BOOL)),
    case("Compress", data(4, 30, dtype=BYTE), np.array([True, True, True, False, True]), axis=-1),
]

CASES = [
    *COPIES,
    case("Slice", data(7, 11), [1, 0], [6, HIGHEST]),
    case("Slice", data(7, 11, dtype=LONG), [-1, 9], [LOWEST, 2], [0, -1], [-1, -3]),
    case("Slice", data(20, 5, dtype=HALF), [3], [1000], [-2], [2]),
    case("Slice", data(3, 4, 5, dtype=BOOL), [-2], [-1], [1], [1]),
    case("Split", data(6, 5), [1, 3, 2], axis=0, outputs=3),
    case("Split", data(3, 7, dtype=BYTE), axis=-1, num_outputs=3, outputs=3),
    case("Split", data(4, 33, dtype=HALF), [32, 1], axis=1, outputs=2),
    case("Split", data(4, 6), [4, 0, 2], axis=1, outputs=3),
    case("Transpose", data(3, 5, 7)),
    case("Transpose", data(2, 3, 16, 24, dtype=BYTE), perm=(0, 2, 3, 1)),
    case("Transpose", data()),
    case("Transpose", data(5, dtype=HALF)),
    case("Transpose", data(9, 33), perm=(1, 0)),
    case("Transpose", data(200, 300), perm=(1, 0)),
    case("Expand", data(3, 1, 5), [2, 1, 4, 5]),
    case("Expand", data(dtype=LONG), [3, 7]),
    case("Expand", data(3, 4, dtype=BOOL), [1, 1]),
    case("Expand", data(3, 1), [3, 0]),
    case("Tile", data(3, 5), [2, 3]),
    case("Tile", data(1, 4, dtype=BYTE), [5, 1]),
    case("DepthToSpace", data(2, 12, 3, 5), blocksize=2),
    case("DepthToSpace", data(2, 18, 3, 5, dtype=BYTE), blocksize=3, mode="CRD"),
    case("SpaceToDepth", data(2, 3, 6, 8), blocksize=2),
    case("SpaceToDepth", IMAGE, blocksize=2, mode="CRD", expected=[blocks_last(IMAGE)]),
    case("Trilu", data(4, 7)),
    case("Trilu", data(2, 7, 5, dtype=LONG), np.int64(2), upper=0),
    case("Trilu", data(2, 7, 5, dtype=LONG), np.int64(-2), upper=1),
    case("Trilu", data(5, 5, dtype=HALF), np.int64(100), upper=1),
    case("Reshape", data(4, 6), [3, -1]),
    case("Reshape", data(1), np.zeros(0, LONG)),
    case("Flatten", data(2, 3, 4), axis=2),
    case("Squeeze", data(1, 3, 1), [0, 2]),
    case("Unsqueeze", data(3, dtype=BOOL), [0, 2]),
    case("Identity", data(5, 7, dtype=HALF)),
    case("ReverseSequence", data(4, 3, 5), np.array([1, 4, 2]), time_axis=0, batch_axis=1),
    case("ReverseSequence", data(4, 4), np.array([1, 2, 3, 4]), time_axis=1, batch_axis=0),
    case("ReverseSequence", data(3, 4, dtype=LONG), np.array([1, 4, 2]), time_axis=1, batch_axis=0),
    case("Pad", data(3, 5), [1, 2, 0, 3], np.float32(2.5)),
    case("Pad", CUT, [1, -2, 0, 3], expected=[np.pad(CUT[:, 2:], ((1, 0), (0, 3)))]),
    case("Pad", CUT, [1, -2, 0, 3], mode="edge", expected=[np.pad(CUT[:, 2:], ((1, 0), (0, 3)), "edge")]),
    case("Pad", data(4, 6, dtype=HALF), [2, 3], np.float16(1), [-1]),
    case("Pad", data(0, 3), [1, 0, 1, 0]),
    case("Pad", data(4, 6), [3, 2, 1, 4], mode="reflect"),
    case("Pad", data(4, 6), [7, 2, 9, 13], mode="reflect"),
    case("Pad", data(4, 6), [3, 2, 1, 4], mode="edge"),
    case("Pad", data(4, 6, dtype=LONG), [5, 2, 1, 9], mode="wrap"),
    case("CenterCropPad", data(5, 8, 3), [7, 5], axes=(0, 1)),
    case("CenterCropPad", data(6, 9), [5, 12]),
    case("ConstantOfShape", [3, 5], value=np.array([7], BYTE)),
    case("ConstantOfShape", [4]),
    case("Shape", data(3, 4, 5)),
    case("Shape", data(3, 4, 5), start=-2),
    case("Size", data(3, 4)),
    case("EyeLike", data(4, 6), k=1),
    case("EyeLike", data(4, 6), k=-2, dtype=7),
    case("Range", np.int64(10), np.int64(-3), np.int64(-3)),
    case("OneHot", np.array([[0, -5, 4], [-1, 2, 3]]), np.int64(5), np.array([2.5, -1.5], np.float32)),
    case("OneHot", np.array([1.0, 7, -9, 2], np.float32), np.int64(5), np.array([0, 1], BYTE), axis=0),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_moves_what_the_reference_moves(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


def test_concat_alone_copies_each_input_in_vectors() -> None:
    script = kernel_of(case("Concat", data(64, 700), data(64, 31), axis=1))
    assert "if_then_else" not in script
    assert "T.parallel(64)" in script
    assert re.findall(r"T\.vectorized\((\d+)\)", script) == ["16", "12", "16", "15"]


def test_one_wide_block_is_copied_by_several_threads() -> None:
    script = kernel_of(case("Concat", data(700, 64), data(31, 64), axis=0))
    assert "T.parallel(2800)" in script
