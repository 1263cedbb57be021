"""Schemes and their texts."""

from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.ir import DType
from graphopt.passes.quantization.scheme import SCHEMES, Scheme, parse_scheme


@pytest.mark.parametrize("name", SCHEMES)
def test_a_name_is_its_own_text(name: str) -> None:
    assert str(parse_scheme(name)) == name


@pytest.mark.parametrize(
    "spec", ["int8{activations=int8}", "weights-int4{group=64}", "int4{group=64}", "int8{per_channel=false}"]
)
def test_options_come_back(spec: str) -> None:
    scheme = parse_scheme(spec)
    assert str(scheme) == spec and parse_scheme(str(scheme)) == scheme


def test_the_text_names_the_nearest_scheme() -> None:
    assert str(Scheme("float32", "int3", group=16)) == "weights-int3{group=16}"
    assert str(parse_scheme("int8{activations=int16 weights=int4 group=2}")) == "16x4{group=2}"


def test_options_change_a_named_scheme() -> None:
    assert parse_scheme("weights-int4{group=32}") == Scheme("float32", "int4", group=32)
    assert parse_scheme("16x8").activation_type is DType.int16
    assert parse_scheme("dynamic").activation_type is None and parse_scheme("dynamic").computes_in_integers
    assert not parse_scheme("weights-int8").computes_in_integers


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("int9", "did you mean"),
        ("int8{weights=int5}", "'int5' is not a value for weights"),
        ("int8{group=1}", "groups are of 2"),
        ("weights-codebook{group=8}", "groups are of 2"),
        ("dynamic{activations=int16}", "dynamic ranges are for"),
        ("int8{", "is not a scheme"),
        ("int8{bits=8}", "has no option 'bits'"),
    ],
)
def test_what_is_no_scheme_is_told(spec: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_scheme(spec)
