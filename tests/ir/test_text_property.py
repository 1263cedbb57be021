"""Every graph reads back from its text: names, types, attributes and data to the bit."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from graphopt.ir import Graph, verify
from graphopt.ir.compare import first_difference
from graphopt.ir.parse import parse
from graphopt.ir.text import big_constants, to_text
from tests.ir.graphs import graphs

relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@relaxed
@given(graphs())
def test_full_text_reads_back_equal(graph: Graph) -> None:
    verify(graph)
    text = to_text(graph)
    again = parse(text)
    verify(again)
    assert first_difference(graph, again, origins=True) == ""
    assert to_text(again) == text


@relaxed
@given(graphs())
def test_digests_read_back_with_the_data_given(graph: Graph) -> None:
    text = to_text(graph, weights="digest")
    again = parse(text, big_constants(graph))
    assert first_difference(graph, again, origins=True) == ""


@relaxed
@given(graphs())
def test_a_clone_is_equal_and_shares_the_data(graph: Graph) -> None:
    copy = graph.clone()
    verify(copy)
    assert first_difference(graph, copy, origins=True) == ""
    assert [v.constant for v in graph.constants] == [] or all(
        x.constant is y.constant for x, y in zip(graph.constants, copy.constants, strict=True)
    )
