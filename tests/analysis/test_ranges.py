"""Ranges: kept, merged, written, edited by hand, and refused for another model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphopt.analysis.ranges import Range, Ranges, model_digest
from graphopt.analysis.ranges_file import load_ranges, ranges_from_json, ranges_to_json, save_ranges
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from tests.passes.helpers import Draft, made


def convolution(g: Draft) -> Value:
    return g.op("Relu", g.op("Conv", g.input(1, 3, 4, 4), g.weight(2, 3, 1, 1)))


def whole(low: float, high: float) -> Range:
    return Range(np.asarray(float(low)), np.asarray(float(high)))


def channels(low: list[float], high: list[float], axis: int = 1) -> Range:
    return Range(np.array(low, float), np.array(high, float), axis)


@pytest.fixture
def graph() -> Graph:
    return made(convolution)


def ranges_of(graph: Graph) -> Ranges:
    x, conv, relu = graph.inputs[0].name, *(node.output.name for node in graph.nodes)
    third = float(np.float32(1 / 3))
    found = {x: whole(-1, third), conv: channels([-2, -1e-30], [0.5, 3e30]), relu: whole(0, 0.5)}
    return Ranges(found, "min-max", 12, model_digest(graph))


def test_json_gives_back_every_bit(graph: Graph, tmp_path: Path) -> None:
    ranges = ranges_of(graph)
    save_ranges(ranges, tmp_path / "ranges.json")
    assert load_ranges(tmp_path / "ranges.json") == ranges
    ranges.check(graph)
    assert ranges_from_json(ranges_to_json(Ranges({}))) == Ranges({})


def test_edited_by_hand(graph: Graph) -> None:
    text = ranges_to_json(ranges_of(graph))
    edited = ranges_from_json(text.replace('"low": 0.0, "high": 0.5', '"low": 0, "high": 6'))
    assert edited[graph.outputs[0].name] == whole(0, 6)
    edited.check(graph)


def test_merging_keeps_what_either_has_seen() -> None:
    first = Ranges({"a": whole(-1, 2), "b": channels([0, 1], [1, 2]), "c": whole(0, 1)}, "min-max", 3, "m")
    second = Ranges({"a": whole(0, 5), "b": channels([-1, 1], [1, 3]), "d": whole(0, 1)}, "min-max", 4, "m")
    both = first.merged(second)
    assert both == second.merged(first)
    assert dict(both) == {
        "a": whole(-1, 5),
        "b": channels([-1, 1], [1, 3]),
        "c": whole(0, 1),
        "d": whole(0, 1),
    }
    assert both.samples == 7
    assert channels([0, 1], [1, 2]).union(whole(-3, 1)) == whole(-3, 2)
    with pytest.raises(UsageError, match="two models"):
        first.merged(Ranges({}, "min-max", 3, "another"))


def test_a_range_tells_of_itself() -> None:
    assert channels([0, 1], [0, 1]).is_constant is False
    assert whole(2, 2).is_constant
    assert channels([-3, 1], [2, 4]).magnitude.tolist() == [3, 4]
    assert channels([-3, 1], [2, 4]).whole() == whole(-3, 4)


def test_a_missing_range_names_its_value() -> None:
    with pytest.raises(UsageError, match="value 'relu_1': no range is known for it .did you mean relu_2"):
        Ranges({"relu_2": whole(0, 1)})["relu_1"]


def test_a_missing_range_is_a_key_error_that_lists_what_there_is() -> None:
    ranges = Ranges({name: whole(0, 1) for name in "abcdef"})
    assert "scores" not in ranges and "a" in ranges and ranges.get("scores") is None
    with pytest.raises(KeyError) as caught:
        ranges["scores"]
    assert str(caught.value) == "value 'scores': no range is known for it [values: a, b, c, d, e, ...]"
    with pytest.raises(KeyError, match="no range is known for it .calibrate again"):
        Ranges({})["scores"]


def test_ranges_of_another_model_are_refused(graph: Graph) -> None:
    ranges = ranges_of(graph)
    other = made(lambda g: g.op("Relu", g.input(1, 3, 4, 4)))
    with pytest.raises(UsageError, match="another model: it has no value"):
        ranges.check(other)
    wider = made(lambda g: g.op("Relu", g.op("Conv", g.input(1, 3, 4, 4), g.weight(5, 3, 1, 1))))
    with pytest.raises(UsageError, match="it has ranges of 2 channels on axis 1, its shape is .1, 5, 4, 4."):
        ranges.check(wider)
    retrained = made(convolution)
    weights = retrained.constants[0]
    assert weights.constant is not None
    weights.constant = weights.constant + np.float32(1)
    with pytest.raises(UsageError, match="another model: names agree, but nodes or weights differ"):
        ranges.check(retrained)


BAD = {
    "no JSON": ("{", "it is no JSON: .*line 1"),
    "no object": ("[]", "its format is 'None'"),
    "another format": ('{"format": "graphopt ranges 9"}', "its format is 'graphopt ranges 9', not"),
    "no values": ('{"format": "graphopt ranges 1"}', "it has no 'values'"),
}

BAD_ENTRIES = {
    "a number": (3, "value 'x': it is no range"),
    "one side": ({"low": 1}, "it is no range"),
    "more": ({"low": 1, "high": 2, "middle": 1}, "it is no range"),
    "text": ({"low": "0", "high": 2}, "'low' is neither a number nor a list"),
    "truth": ({"low": 0, "high": True}, "'high' is neither a number nor a list"),
    "nothing": ({"low": [], "high": [], "axis": 1}, "'low' is neither a number nor a list"),
    "exchanged": ({"low": 2, "high": 1}, "value 'x': 'low' is above 'high': 2 is above 1 .exchange them"),
    "one channel": ({"axis": 1, "low": [0, 2], "high": [1, 1]}, "'low' of channel 1 is above 'high'"),
    "lengths": ({"axis": 1, "low": [0, 2], "high": [1]}, "differ in length"),
    "no axis": ({"low": [0, 2], "high": [1, 3]}, "it is no range"),
    "axis of one number": ({"axis": 1, "low": 0, "high": 1}, "it is no range"),
    "a negative axis": ({"axis": -1, "low": [0], "high": [1]}, "'axis' is -1"),
    "infinity": ({"low": 0, "high": float("inf")}, "'high' is not finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_file_of_ranges(case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(UsageError, match=f"mine.json: {message}"):
        ranges_from_json(text, "mine.json")


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_what_is_no_range(case: str) -> None:
    entry, message = BAD_ENTRIES[case]
    with pytest.raises(UsageError, match=message):
        ranges_from_json(json.dumps({"format": "graphopt ranges 1", "values": {"x": entry}}))


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.json: cannot be read"):
        load_ranges(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="it is no text"):
        load_ranges(tmp_path / "bytes.json")
    with pytest.raises(UsageError, match="cannot be written"):
        save_ranges(Ranges({}), tmp_path / "no" / "ranges.json")
