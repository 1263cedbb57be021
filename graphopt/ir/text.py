"""A graph as text, one node a line. `graphopt.ir.parse` reads it back.

    graph main (opset 24) {
      input %x: float32[N, 8]
      const %w: float32[8, 4] = sha256:0d4f6f2c5a9be1c3
      const %b: float32[4] = [0.0, 0.5, -1.0, 2.0]
      %y: float32[N, 4] = Gemm(%x, %w, %b) {transB = 0} @dense by fold-add from @matmul @add
      output %y as logits
    }

Values start with `%`, nodes with `@`; `_` is an input that is left out; `by` and `from` tell the origin.
Dimensions that nobody named are numbered `?0`, `?1`, ... in the order they appear, so that the text does not
depend on what happened before. Big constants stand under `resources` at the end.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Literal

import numpy as np

from graphopt.ir.attributes import Attribute
from graphopt.ir.graph import Graph, Node
from graphopt.ir.literals import (
    INLINE_ELEMENTS,
    bare,
    digest,
    elements,
    float_text,
    quoted,
    quoted_bytes,
    raw_bytes,
    word,
)
from graphopt.ir.origin import Origin
from graphopt.ir.types import DType, TensorType
from graphopt.ir.value import Value

WIDTH = 100


def to_text(graph: Graph, *, weights: Literal["full", "digest"] = "full", origins: bool = True) -> str:
    """The text of `graph`.

    With `weights="digest"` the data of big constants is left out; reading the text then needs them, see
    `big_constants`. Without `origins` the text reads back with every node its own origin.
    """
    lines = list(_Printer(origins).graph(graph, "", "", None))
    if weights == "full" and (resources := big_constants(graph)):
        lines.append("resources")
        for name, array in sorted(resources.items()):
            data = base64.b64encode(raw_bytes(array)).decode()
            lines.append(name)
            lines.extend(f"  {data[i : i + WIDTH]}" for i in range(0, len(data), WIDTH))
    return "\n".join(lines) + "\n"


def big_constants(graph: Graph) -> dict[str, np.ndarray]:
    """Tensors that the text names by their digest, by that name; those of nested graphs too."""
    found: dict[str, np.ndarray] = {}
    for array in _tensors(graph):
        if array.size > INLINE_ELEMENTS:
            found.setdefault(digest(array), array)
    return found


def _tensors(graph: Graph) -> Iterator[np.ndarray]:
    for value in graph.constants:
        assert value.constant is not None
        yield value.constant
    for node in graph.nodes:
        for attribute in node.attributes.values():
            for item in attribute if isinstance(attribute, tuple) else (attribute,):
                if isinstance(item, np.ndarray):
                    yield item
        for nested in node.subgraphs:
            yield from _tensors(nested)


class _Printer:
    """Prints one graph; numbers the dimensions without a name as they come."""

    def __init__(self, origins: bool) -> None:
        self.origins = origins
        self.dims: dict[str, str] = {}

    def graph(self, graph: Graph, indent: str, prefix: str, outer: Graph | None) -> Iterator[str]:
        versions = ", ".join(
            [f"opset {graph.opset}", *(f"{word(d)} {v}" for d, v in sorted(graph.domains.items()))]
        )
        same = outer is not None and (graph.opset, graph.domains) == (outer.opset, outer.domains)
        kind = "closed graph" if outer is not None and graph.parent is None else "graph"
        yield f"{prefix}{kind} {word(graph.name)} {'' if same else f'({versions}) '}{{"
        inner = indent + "  "
        for key, text in sorted(graph.metadata.items()):
            yield f"{inner}metadata {quoted(key)} {quoted(text)}"
        for value in graph.inputs:
            yield f"{inner}input {self.typed(value)}"
        for value in graph.constants:
            assert value.constant is not None
            yield f"{inner}const {self.typed(value)} = {self.data(value.constant)}"
        for node in graph.nodes:
            yield from self.node(node, inner, graph)
        for value, name in zip(graph.outputs, graph.output_names, strict=True):
            alias = "" if name == value.name else f" as {word(name)}"
            yield f"{inner}output %{bare(value.name)}{alias}"
        yield f"{indent}}}"

    def node(self, node: Node, indent: str, graph: Graph) -> Iterator[str]:
        results = ", ".join(self.typed(value) for value in node.outputs) or "()"
        operands = ", ".join("_" if v is None else f"%{bare(v.name)}" for v in node.inputs)
        line = f"{indent}{results} = {_operator(node)}({operands})"
        opening = " {"
        for key in sorted(node.attributes, key=lambda k: (_is_graph(node.attributes[k]), k)):
            value = node.attributes[key]
            line += f"{opening}{word(key)} = "
            if isinstance(value, Graph):
                *above, line = self.graph(value, indent, line, graph)
                yield from above
            else:
                line += self.simple(value)
            opening = ", "
        line += "}" if node.attributes else ""
        yield f"{line} @{bare(node.name)}{self.origin(node)}"

    def simple(self, value: Attribute) -> str:
        """An attribute other than a graph."""
        if isinstance(value, tuple):
            return f"[{', '.join(self.simple(item) for item in value)}]"
        if isinstance(value, np.ndarray):
            type = TensorType(DType.of(value.dtype), value.shape)
            return f"tensor {self.type(type)} {self.data(value)}"
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, bytes):
            return quoted_bytes(value)
        if isinstance(value, (float, np.floating)):
            return float_text(float(value))
        return str(int(value))  # type: ignore[arg-type]

    def typed(self, value: Value) -> str:
        return f"%{bare(value.name)}: {self.type(value.type)}"

    def type(self, type: TensorType | None) -> str:
        if type is None:
            return "?"
        dims = "*" if type.shape is None else ", ".join(self.dim(d) for d in type.shape)
        return f"{type.dtype}[{dims}]" + (f"@{bare(type.layout)}" if type.layout is not None else "")

    def dim(self, dim: int | str) -> str:
        if isinstance(dim, str) and dim.startswith("?"):
            return self.dims.setdefault(dim, f"?{len(self.dims)}")
        return word(dim) if isinstance(dim, str) else str(dim)

    def data(self, array: np.ndarray) -> str:
        if array.size > INLINE_ELEMENTS:
            return digest(array)
        texts = elements(array)
        return texts[0] if array.ndim == 0 and len(texts) == 1 else f"[{', '.join(texts)}]"

    def origin(self, node: Node) -> str:
        origin = node.origin
        if not self.origins or origin == Origin("", (node.name,)):
            return ""
        made = f" by {word(origin.rule)}" if origin.rule else ""
        if not origin.sources:
            return made or " from ()"
        return f"{made} from {' '.join(f'@{bare(s)}' for s in origin.sources)}"


class Excerpt:
    """Single statements of a graph's text, for messages about parts of it."""

    def __init__(self) -> None:
        self._printer = _Printer(origins=False)

    def input(self, value: Value) -> str:
        return f"input {self._printer.typed(value)}"

    def constant(self, value: Value) -> str:
        assert value.constant is not None
        return f"const {self._printer.typed(value)} = {self._printer.data(value.constant)}"

    def node(self, node: Node) -> str:
        """One line, unless the node has nested graphs."""
        assert node.graph is not None
        return "\n".join(self._printer.node(node, "", node.graph))

    def attribute(self, value: Attribute) -> str:
        return "a graph" if isinstance(value, Graph) else self._printer.simple(value)


def _operator(node: Node) -> str:
    plain = word(node.op_type) == node.op_type and ":" not in node.op_type
    if not node.domain:
        return node.op_type if plain else quoted(node.op_type)
    if plain and word(node.domain) == node.domain:
        return f"{node.domain}::{node.op_type}"
    return f"{quoted(node.domain)}::{quoted(node.op_type)}"


def _is_graph(value: Attribute) -> bool:
    return isinstance(value, Graph)
