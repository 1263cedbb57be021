"""Reading the text form that `graphopt.ir.text` prints."""

from __future__ import annotations

import base64
import binascii
import re
from collections import ChainMap
from collections.abc import Mapping

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.attributes import Attribute
from graphopt.ir.graph import Graph, Node
from graphopt.ir.literals import array_from, array_from_bytes, float_number, raw_bytes, unquoted_bytes
from graphopt.ir.origin import Origin
from graphopt.ir.tokens import ParseError, Token, tokens_of
from graphopt.ir.types import Dim, DType, TensorType, fresh_dim
from graphopt.ir.value import Value

Scope = ChainMap[str, Value]


def parse(source: str, resources: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that `source` describes; `resources` holds tensors the text only names by digest.

    Raises ParseError, a GraphoptError that knows the line and shows it with a caret.
    """
    start = re.search(r"^resources[ \t\r]*$", source, re.MULTILINE)
    end = start.start() if start else len(source)
    found: dict[str, bytes] = {name: raw_bytes(array) for name, array in (resources or {}).items()}
    if start:
        found.update(_read_resources(source, start.end()))
    parser = _Parser(source, tokens_of(source, end), found)
    graph = parser.graph(None, ChainMap())
    parser.expect("end")
    return graph


def _read_resources(source: str, offset: int) -> dict[str, bytes]:
    """Lines of base64, indented, under the digest they belong to."""
    found: dict[str, bytes] = {}
    lines: list[str] = []
    name, at = "", offset

    def finish() -> None:
        if name:
            try:
                found[name] = base64.b64decode("".join(lines), validate=True)
            except binascii.Error as error:
                raise ParseError(f"this is not base64: {error}", source, at) from None

    for match in re.finditer(r"^([ \t]*)(\S+)[ \t\r]*$", source[offset:], re.MULTILINE):
        if match[1]:
            lines.append(match[2])
        else:
            finish()
            name, lines, at = match[2], [], offset + match.start()
    finish()
    return found


class _Parser:
    """Recursive descent over the tokens; `dims` gives the numbered dimensions symbols of their own."""

    def __init__(self, source: str, tokens: list[Token], resources: Mapping[str, bytes]) -> None:
        self.source = source
        self.tokens = tokens
        self.position = 0
        self.resources = resources
        self.dims: dict[str, str] = {}

    # --- tokens ---

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def error(self, what: str, token: Token) -> ParseError:
        return ParseError(what, self.source, token.offset)

    def next(self) -> Token:
        token = self.current
        self.position += token.kind != "end"
        return token

    def at(self, *texts: str) -> bool:
        return self.current.text in texts and self.current.kind in ("mark", "word")

    def take(self, text: str) -> bool:
        """Step over `text` if it comes next."""
        if self.at(text):
            self.next()
            return True
        return False

    def require(self, text: str) -> None:
        if not self.take(text):
            raise self.error(f"expected '{text}', found {self.current}", self.current)

    def expect(self, *kinds: str) -> Token:
        if self.current.kind not in kinds:
            wanted = " or ".join(f"a {kind}" if kind != "end" else "nothing more" for kind in kinds)
            raise self.error(f"expected {wanted}, found {self.current}", self.current)
        return self.next()

    def name(self, *kinds: str) -> str:
        token = self.expect(*(kinds or ("word", "string")))
        try:
            return token.name
        except ValueError as error:
            raise self.error(f"bad string: {error}", token) from None

    def integer(self) -> int:
        token = self.expect("number")
        try:
            return int(token.text)
        except ValueError:
            raise self.error(f"expected an integer, found {token}", token) from None

    # --- the graph ---

    def graph(self, outer: Graph | None, scope: Scope) -> Graph:
        closed = self.take("closed")
        self.require("graph")
        graph = Graph(
            self.name(), opset=0 if outer is None else outer.opset, parent=None if closed else outer
        )
        if self.take("("):
            self.versions(graph)
        elif outer is not None:
            graph.domains = dict(outer.domains)
        else:
            raise self.error(f"expected '(opset ...)', found {self.current}", self.current)
        self.require("{")
        inside: Scope = ChainMap() if closed else scope.new_child()
        while not self.take("}"):
            self.statement(graph, inside)
        return graph

    def versions(self, graph: Graph) -> None:
        self.require("opset")
        graph.opset = self.integer()
        while self.take(","):
            domain = self.name()
            graph.domains[domain] = self.integer()
        self.require(")")

    def statement(self, graph: Graph, scope: Scope) -> None:
        start = self.current
        try:
            if self.take("metadata"):
                key = self.name()
                graph.metadata[key] = self.name()
            elif self.take("input"):
                name = self.name("value")
                self.define(scope, start, graph.add_input(name, self.typed()), name)
            elif self.take("const"):
                self.constant(graph, scope, start)
            elif self.take("output"):
                value = self.value(scope)
                graph.add_output(value, self.name() if self.take("as") else value.name)
            else:
                self.node(graph, scope, start)
        except IRError as error:
            raise self.error(f"{error}", start) from None

    def constant(self, graph: Graph, scope: Scope, start: Token) -> None:
        name, type = self.name("value"), self.typed()
        self.require("=")
        value = graph.add_constant(self.tensor(type, start), name)
        value.type = type
        self.define(scope, start, value, name)

    def define(self, scope: Scope, at: Token, value: Value, name: str) -> None:
        if value.name != name:
            raise self.error(f"there is a value '{name}' already", at)
        scope[name] = value

    def value(self, scope: Scope) -> Value:
        token = self.current
        name = self.name("value")
        if name not in scope:
            raise self.error(f"no value '{name}' is defined above", token)
        return scope[name]

    def node(self, graph: Graph, scope: Scope, start: Token) -> Node:
        results: list[tuple[str, TensorType | None]] = []
        if self.take("("):
            self.require(")")
        else:
            results.append((self.name("value"), self.typed()))
            while self.take(","):
                results.append((self.name("value"), self.typed()))
        self.require("=")
        domain, op_type = self.operator()
        self.require("(")
        operands: list[Value | None] = []
        while not self.take(")"):
            if operands:
                self.require(",")
            operands.append(None if self.take("_") else self.value(scope))
        attributes = self.attributes(graph, scope)
        name = self.name("node")
        node = graph.add(
            op_type,
            operands,
            attributes,
            types=[type for _, type in results],
            domain=domain,
            name=name,
            output_names=[result for result, _ in results],
            origin=self.origin(name),
        )
        if node.name != name:
            raise self.error(f"there is a node '{name}' already", start)
        for value, (result, _) in zip(node.outputs, results, strict=True):
            self.define(scope, start, value, result)
        return node

    def operator(self) -> tuple[str, str]:
        quoted = self.current.kind == "string"
        name = self.name()
        if quoted:
            return (name, self.name()) if self.take("::") else ("", name)
        domain, _, op_type = name.rpartition("::")
        return domain, op_type

    def origin(self, name: str) -> Origin:
        rule = self.name() if self.take("by") else ""
        if not self.take("from"):
            return Origin(rule, () if rule else (name,))
        sources: list[str] = []
        if self.take("("):
            self.require(")")
        else:
            sources.append(self.name("node"))
            while self.current.kind == "node":
                sources.append(self.name("node"))
        return Origin(rule, tuple(sources))

    # --- attributes ---

    def attributes(self, graph: Graph, scope: Scope) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        if not self.take("{"):
            return found
        while not self.take("}"):
            if found:
                self.require(",")
            token = self.current
            key = self.name()
            if key in found:
                raise self.error(f"there is an attribute '{key}' already", token)
            self.require("=")
            found[key] = self.attribute(graph, scope)
        return found

    def attribute(self, graph: Graph, scope: Scope) -> Attribute:
        return self.graph(graph, scope) if self.at("graph", "closed") else self.simple()

    def simple(self) -> Attribute:
        """An attribute other than a graph."""
        if self.take("tensor"):
            start = self.current
            type = self.type()
            if type is None:
                raise self.error("a tensor has a type", start)
            return self.tensor(type, start)
        if self.take("["):
            items: list[Attribute] = []
            while not self.take("]"):
                if items:
                    self.require(",")
                items.append(self.simple())
            return tuple(items)
        token = self.expect("number", "string", "bytes")
        try:
            if token.kind == "string":
                return token.name
            if token.kind == "bytes":
                return unquoted_bytes(token.text)
            return int(token.text) if re.fullmatch(r"-?\d+", token.text) else float_number(token.text)
        except (ValueError, OverflowError) as error:
            raise self.error(f"bad value: {error}", token) from None

    # --- types and tensors ---

    def typed(self) -> TensorType | None:
        self.require(":")
        return self.type()

    def type(self) -> TensorType | None:
        token = self.expect("word")
        if token.text == "?":
            return None
        if token.text not in DType.__members__:
            raise self.error(f"there is no element type {token}", token)
        dtype = DType[token.text]
        self.require("[")
        dims: list[Dim] = []
        unranked = self.take("*")
        if unranked:
            self.require("]")
        else:
            while not self.take("]"):
                if dims:
                    self.require(",")
                dims.append(self.dim())
        layout = self.name("node") if self.current.kind == "node" else None
        return TensorType(dtype, None if unranked else tuple(dims), layout)

    def dim(self) -> Dim:
        if self.current.kind == "number":
            return self.integer()
        name = self.name()
        return self.dims.setdefault(name, fresh_dim()) if name.startswith("?") else name

    def tensor(self, type: TensorType | None, start: Token) -> np.ndarray:
        """The data of a tensor of the given type: its elements, or the digest of its bytes."""
        if type is None or not type.is_static:
            raise self.error("the shape of a constant is fixed", start)
        token = self.current
        try:
            if token.kind == "word" and token.text.startswith("sha256:"):
                if self.next().text not in self.resources:
                    raise self.error(f"there is no resource {token}", token)
                return array_from_bytes(self.resources[token.text], type.dtype, type.static_shape)
            return array_from(self.elements(), type.dtype, type.static_shape)
        except (ValueError, OverflowError, TypeError) as error:
            raise self.error(f"these are not the data of {type}: {error}", token) from None

    def elements(self) -> list[str]:
        kinds = ("number", "word", "string", "bytes")
        if not self.take("["):
            return [self.expect(*kinds).text]
        texts: list[str] = []
        while not self.take("]"):
            if texts:
                self.require(",")
            texts.append(self.expect(*kinds).text)
        return texts
