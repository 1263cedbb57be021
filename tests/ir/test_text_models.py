"""The text form of real models, before and after optimisation."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt
from graphopt.errors import GraphoptError
from graphopt.ir import Graph, verify
from graphopt.ir.compare import first_difference
from graphopt.ir.parse import parse
from graphopt.ir.text import big_constants, to_text
from tests.networks import NETWORKS
from tests.zoo import REASON, zoo_models


def check(graph: Graph) -> None:
    text = to_text(graph, weights="digest")
    again = parse(text, big_constants(graph))
    verify(again)
    assert first_difference(graph, again, origins=True) == ""
    assert to_text(again, weights="digest") == text


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_read_back(name: str) -> None:
    graph = graphopt.load(NETWORKS[name]())
    check(graph)
    check(graphopt.optimize(graph))
    text = to_text(graph)
    assert first_difference(graph, parse(text), origins=True) == ""


@pytest.mark.zoo
@pytest.mark.skipif(not zoo_models(), reason=REASON)
@pytest.mark.parametrize("path", zoo_models(), ids=lambda path: path.stem)
def test_zoo_models_read_back(path: Path) -> None:
    graph = graphopt.load(path)
    check(graph)
    check(graphopt.optimize(graph))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("graph g (opset 24) {\n  input %x: float32[2]\n  output %y\n}", "line 3, column 10: no value 'y'"),
        ("graph g {\n}", r"line 1, column 9: expected '\(opset ...\)'"),
        ("graph g (opset 24) {\n  input %x: float33[2]\n}", "line 2, column 13: there is no element type"),
        ("graph g (opset 24) {\n  const %c: int8[2] = [1, 300]\n}", "300 is out of range for int8"),
        ("graph g (opset 24) {\n  %y: ? = Relu(%x) @r\n}", "line 2, column 16: no value 'x'"),
        ("graph g (opset 24) {", "expected"),
        ("graph g (opset 24) {\n}\n}", "expected nothing more"),
        ("graph g (opset 24) {\n  ~\n}", "line 2, column 3: '~' does not belong here"),
    ],
)
def test_errors_point_at_the_place(text: str, fault: str) -> None:
    with pytest.raises(GraphoptError, match=fault):
        parse(text)
