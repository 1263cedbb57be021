"""Einsum and Col2Im on whole numbers, whose sums are exact."""

from __future__ import annotations

import numpy as np
import pytest

from tests.targets.lower.data import whole
from tests.targets.lower.kernels import Outputs, assert_same, case, kernel_of, names, run_cases

EQUATIONS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("ij->ji", ((3, 5),)),
    ("ij->", ((3, 4),)),
    ("ii->i", ((4, 4),)),
    ("ii", ((4, 4),)),
    ("...ii->...i", ((2, 3, 4, 4),)),
    ("...->...", ((2, 3),)),
    ("ij,jk", ((3, 5), (5, 7))),
    ("ba,b", ((2, 3), (2,))),
    ("i,i", ((5,), (5,))),
    ("i,j->ij", ((3,), (4,))),
    ("bij, bjk -> bik", ((2, 3, 5), (2, 5, 4))),
    ("...ij,...jk->...ik", ((2, 3, 5), (2, 5, 7))),
    ("...ij,...jk->...ik", ((2, 1, 3, 5), (1, 4, 5, 7))),
    ("b...a,b...->a", ((2, 3, 5), (2, 3))),
    ("bhwc,hkc->bhwk", ((2, 3, 4, 5), (3, 6, 5))),
    ("ij,jk,kl->il", ((3, 4), (4, 5), (5, 6))),
    ("ij,jk->ik", ((3, 0), (0, 4))),
    ("ij,jk->ik", ((64, 70), (70, 48))),
]

CASES = [
    *(case("Einsum", *(whole(*s) for s in shapes), equation=e) for e, shapes in EQUATIONS),
    case(
        "Einsum",
        whole(17, 70, dtype=np.float16, limit=3),
        whole(70, 30, dtype=np.float16, limit=3),
        equation="ij,jk->ik",
    ),
    case("Einsum", whole(3, 5, dtype=np.int32), whole(5, 4, dtype=np.int32), equation="ij,jk->ik"),
    case("Col2Im", whole(2, 12, 16), [5, 5], [2, 2]),
    case("Col2Im", whole(1, 5, 15), [5, 5], [1, 5], pads=(0, 1, 0, 1)),
    case("Col2Im", whole(1, 9, 4), [6, 6], [3, 3], dilations=(2, 2)),
    case("Col2Im", whole(1, 9, 4), [5, 5], [3, 3], strides=(2, 2)),
    case("Col2Im", whole(1, 10, 12), [3, 4, 5], [1, 1, 5]),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_sums_what_the_reference_sums(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


def test_a_chain_of_three_sums_each_label_as_soon_as_it_can() -> None:
    script = kernel_of(case("Einsum", whole(8, 8), whole(8, 8), whole(8, 8), equation="ij,jk,kl->il"))
    assert script.count("T.axis.reduce(8") == 2
