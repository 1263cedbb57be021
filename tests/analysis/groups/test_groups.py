"""What goes together, network by network; what stays, and why."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np

from graphopt.analysis.groups.find import Group, Groups, channel_groups
from graphopt.analysis.groups.reshapes import stretches
from graphopt.ir import Value
from graphopt.report.groups_picture import picture
from tests.passes.helpers import Draft, made


def groups_of(build: Callable[[Draft], Value]) -> Groups:
    return channel_groups(made(build))


def described(group: Group) -> tuple[int, list[tuple[str, int, int, bool]]]:
    """Units; of each constant its operator, axis, indices for a unit, and whether it reads them."""
    constants = [s for s in group.stretches if s.dimension.is_constant]
    return group.size, [
        (s.dimension.holder.node.op_type, s.dimension.axis, s.indices.shape[1], s.is_read)  # type: ignore[union-attr]
        for s in constants
    ]


def test_a_residual_addition_joins_what_it_adds() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("Conv", draft.input(1, 3, 8, 8), draft.weight(8, 3, 1, 1))
        y = draft.op("Conv", draft.op("Relu", x), draft.weight(8, 8, 1, 1))
        return draft.op("Conv", draft.op("Add", x, y), draft.weight(2, 8, 1, 1))

    found = groups_of(build)
    assert [described(group) for group in found.groups] == [
        (8, [("Conv", 0, 1, False), ("Conv", 0, 1, False), ("Conv", 1, 1, True), ("Conv", 1, 1, True)])
    ]
    [fixed] = found.fixed
    assert fixed.size == 2 and "is an output of the model" in fixed.reason


def test_a_flattened_image_has_a_stretch_of_rows_for_each_channel() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("Conv", draft.input(1, 3, 2, 3), draft.weight(4, 3, 1, 1))
        return draft.op("Gemm", draft.op("Flatten", x), draft.weight(24, 5))

    [group] = groups_of(build).groups
    assert described(group) == (4, [("Conv", 0, 1, False), ("Gemm", 0, 6, True)])
    [rows] = group.readers
    np.testing.assert_array_equal(rows.indices, np.arange(24).reshape(4, 6))


def test_concatenated_channels_are_groups_of_their_own() -> None:
    def build(draft: Draft) -> Value:
        x = draft.input(1, 3, 4, 4)
        parts = [draft.op("Conv", x, draft.weight(channels, 3, 1, 1)) for channels in (4, 2)]
        return draft.op("Conv", draft.op("Concat", *parts, axis=1), draft.weight(3, 6, 1, 1))

    first, second = groups_of(build).groups
    assert (first.size, second.size) == (4, 2)
    np.testing.assert_array_equal(second.readers[0].indices.ravel(), [4, 5])


def test_narrow_groups_go_whole_and_wide_ones_lose_channels() -> None:
    def build(channels: int, groups: int) -> Callable[[Draft], Value]:
        def built(draft: Draft) -> Value:
            x = draft.op("Conv", draft.input(1, 3, 4, 4), draft.weight(channels, 3, 1, 1))
            y = draft.op("Conv", x, draft.weight(channels, channels // groups, 3, 3), group=groups)
            return draft.op("Conv", y, draft.weight(3, channels, 1, 1))

        return built

    [depthwise] = groups_of(build(6, 6)).groups
    assert depthwise.size == 6
    [narrow] = groups_of(build(8, 4)).groups
    assert narrow.size == 4 and {s.indices.shape[1] for s in narrow.stretches} == {2}
    inputs, outputs = groups_of(build(12, 2)).groups
    assert inputs.size == outputs.size == 6
    np.testing.assert_array_equal(inputs.makers[0].indices[1], [1, 7])


def test_heads_go_with_queries_keys_and_values() -> None:
    def build(draft: Draft) -> Value:
        x = draft.input(1, 5, 12)
        q, k, v = (draft.op("MatMul", x, draft.weight(12, 12)) for _ in range(3))
        split = [draft.op("Reshape", value, draft.ints(1, 5, 3, 4)) for value in (q, k, v)]
        q, k, v = (draft.op("Transpose", value, perm=(0, 2, 1, 3)) for value in split)
        scores = draft.op("MatMul", q, draft.op("Transpose", k, perm=(0, 1, 3, 2)))
        mixed = draft.op("MatMul", draft.op("Softmax", scores, axis=-1), v)
        joined = draft.op("Reshape", draft.op("Transpose", mixed, perm=(0, 2, 1, 3)), draft.ints(1, 5, 12))
        return draft.op("MatMul", joined, draft.weight(12, 7))

    [heads] = groups_of(build).groups
    assert described(heads) == (3, [("MatMul", 1, 4, False)] * 3 + [("MatMul", 0, 4, True)])
    np.testing.assert_array_equal(heads.readers[0].indices[1], [4, 5, 6, 7])


def test_hidden_units_have_rows_in_every_gate() -> None:
    def build(draft: Draft) -> Value:
        weights = [draft.weight(1, 20, size) for size in (4, 5)]
        x = draft.input(6, 1, 4)
        y = draft.ops("LSTM", x, *weights, draft.weight(1, 40), outputs=1, hidden_size=5)[0]
        return draft.op("MatMul", draft.op("Squeeze", y, draft.ints(1)), draft.weight(5, 2))

    [units] = groups_of(build).groups
    assert units.size == 5
    assert sorted(described(units)[1]) == [
        ("LSTM", 1, 4, False),
        ("LSTM", 1, 4, False),
        ("LSTM", 1, 8, False),
        ("LSTM", 2, 1, True),
        ("MatMul", 0, 1, True),
    ]


def test_a_normalised_width_is_coupled() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("MatMul", draft.input(1, 4), draft.weight(4, 6))
        y = draft.op("LayerNormalization", x, draft.weight(6), draft.weight(6), axis=-1)
        return draft.op("MatMul", y, draft.weight(6, 2))

    [group] = groups_of(build).groups
    assert group.size == 6 and "normalises along it" in group.coupled


def test_what_no_rule_knows_or_needs_whole_stays() -> None:
    def build(op_type: str, **attributes: object) -> Callable[[Draft], Value]:
        def built(draft: Draft) -> Value:
            x = draft.op("Conv", draft.input(1, 3, 4, 4), draft.weight(4, 3, 1, 1))
            return draft.op("Conv", draft.op(op_type, x, **attributes), draft.weight(2, 4, 1, 1))

        return built

    assert len(groups_of(build("Softsign")).groups) == 1
    for op_type, attributes in (("LRN", {"size": 3}), ("Softmax", {"axis": 1})):
        found = groups_of(build(op_type, **attributes))
        assert found.groups == () and f"({op_type}) needs it whole" in found.fixed[0].reason


def test_one_constant_of_two_layers_is_no_tie() -> None:
    """Both are widened by the same numbers, and may lose different ones."""

    def build(draft: Draft) -> Value:
        bias, x = draft.weight(4), draft.input(1, 3, 4, 4)
        y = draft.op("Conv", x, draft.weight(4, 3, 1, 1), bias)
        z = draft.op("Conv", y, draft.weight(4, 4, 1, 1), bias)
        return draft.op("Conv", z, draft.weight(2, 4, 1, 1))

    assert [group.size for group in groups_of(build).groups] == [4, 4]


def test_shapes_fall_into_stretches() -> None:
    assert stretches((1, 6, 4, 4), (1, 96)) == [([1, 2, 3], [1])]
    assert stretches((1, 5, 12), (5, 3, 4)) == [([1], [0]), ([2], [1, 2])]
    assert stretches((6, 4), (4, 6)) == [([0, 1], [0, 1])]
    assert stretches(("N", 6), ("N", 2, 3)) == [([0], [0]), ([1], [1, 2])]
    assert stretches(("N", 6), ("M",)) is None


def test_the_picture_has_a_lane_for_each_group() -> None:
    def build(draft: Draft) -> Value:
        x = draft.op("Conv", draft.input(1, 3, 2, 3), draft.weight(4, 3, 1, 1))
        hidden = draft.op("Gemm", draft.op("Flatten", x), draft.weight(24, 5))
        return draft.op("Gemm", hidden, draft.weight(5, 2))

    graph = made(build)
    drawn = picture(graph, channel_groups(graph))
    assert drawn == picture(graph, channel_groups(graph))
    tags = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()]
    assert tags.count("line") == 2 and tags.count("circle") == 4
