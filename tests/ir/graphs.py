"""Random graphs: valid IR of nonsense operators, with odd names, all types and every kind of attribute."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from graphopt.ir import KERNEL, Attribute, DType, Graph, Origin, TensorType, Value, fresh_dim

NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_./]{0,6}(:0)?", fullmatch=True),
    st.text(max_size=6),
    st.sampled_from(
        ["", "_", "inf", "nan", "true", "output", "graph", "a b", 'say "x"', "%x", "@", "a::b", "é"]
    ),
)
WORDS = st.one_of(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,6}", fullmatch=True), st.text(min_size=1, max_size=5))
FLOATS = st.floats() | st.sampled_from([0.1, -0.0, 1e300, 5e-324, float("inf"), float("nan")])


@st.composite
def tensors(draw: st.DrawFn, largest: int = 12) -> np.ndarray:
    """Any element type, any bits: NaN payloads, denormals, int4."""
    dtype = draw(st.sampled_from(list(DType)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape))
    if dtype is DType.string:
        items = draw(st.lists(st.text(max_size=3) | st.binary(max_size=3), min_size=size, max_size=size))
        array = np.empty(size, object)
        array[:] = items
        return array.reshape(shape)
    if dtype is DType.bool:
        bits = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
        return np.array(bits, np.bool_).reshape(shape)
    if dtype.bits < 8:
        codes = draw(st.lists(st.integers(0, 2**dtype.bits - 1), min_size=size, max_size=size))
        raw = np.array(codes, np.uint8)
        signed = dtype in (DType.int4, DType.int2)
        if signed and draw(st.booleans()):  # the bits above the element are free: here its sign
            raw = ((raw.astype(np.int16) ^ (1 << (dtype.bits - 1))) - (1 << (dtype.bits - 1))).astype(
                np.uint8
            )
        return raw.view(dtype.numpy).reshape(shape)
    count = size * dtype.numpy.itemsize
    return np.frombuffer(draw(st.binary(min_size=count, max_size=count)), dtype.numpy).reshape(shape)


def types() -> st.SearchStrategy[TensorType | None]:
    dims = st.integers(0, 2**40) | st.sampled_from(["N", "batch", "2*N", "", "inf"]) | st.text(max_size=3)
    shapes = st.none() | st.lists(dims, max_size=3).map(tuple)
    layouts = st.none() | st.sampled_from(["NCHW16c", "odd layout"])
    return st.none() | st.builds(TensorType, st.sampled_from(list(DType)), shapes, layouts)


def plain_attributes() -> st.SearchStrategy[Attribute]:
    simple = (
        st.integers(-(2**63), 2**63 - 1) | FLOATS | st.text(max_size=5) | st.binary(max_size=5) | tensors()
    )
    lists = st.one_of(*(st.lists(kind, max_size=3).map(tuple) for kind in (st.integers(), FLOATS, st.text())))
    return simple | lists


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A verified graph of up to six nodes, with nested graphs that capture and bodies that stand alone."""
    graph = Graph(draw(NAMES), opset=draw(st.integers(7, 30)))
    graph.domains = draw(st.dictionaries(WORDS, st.integers(1, 9), max_size=2))
    graph.metadata = draw(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
    _fill(draw, graph, [], depth=0)
    return graph


def _fill(draw: st.DrawFn, graph: Graph, outer: list[Value], depth: int) -> None:
    scope = list(outer)
    shared = fresh_dim()
    for _ in range(draw(st.integers(0, 2))):
        type = TensorType(DType.float32, (shared, fresh_dim())) if draw(st.booleans()) else draw(types())
        scope.append(graph.add_input(draw(NAMES), type, unique=True))
    for _ in range(draw(st.integers(0, 2))):
        scope.append(graph.add_constant(draw(tensors()), draw(NAMES)))
    own = []
    for _ in range(draw(st.integers(0, 3 - depth))):
        operands = draw(st.lists(st.none() | st.sampled_from(scope), max_size=3)) if scope else []
        attributes: dict[str, Attribute] = draw(st.dictionaries(WORDS, plain_attributes(), max_size=2))
        domain = draw(st.sampled_from(["", "", "com.microsoft", "odd domain"]))
        nesting = draw(st.sampled_from(["", "", "captures", "closed"])) if depth < 2 else ""
        if nesting == "captures":
            nested = Graph(draw(NAMES), opset=graph.opset, parent=graph)
            nested.domains = draw(st.sampled_from([{}, dict(graph.domains)]))
            _fill(draw, nested, scope, depth + 1)
            attributes["branch"] = nested
        elif nesting == "closed":
            domain, operands = KERNEL, []
            body = Graph(draw(NAMES), opset=graph.opset)
            _fill(draw, body, [], depth + 1)
            for value in body.inputs:
                operands.append(graph.add_constant(np.float32(1)))
                value.type = None
            attributes = {"body": body}
        node_types = (
            draw(st.lists(types(), max_size=2)) if domain != KERNEL else [v.type for v in body.outputs]
        )
        rule, sources = draw(st.sampled_from(["", "fold-it", "odd rule"])), draw(st.lists(NAMES, max_size=2))
        origin = draw(st.sampled_from([None, Origin(rule, tuple(sources))]))
        node = graph.add(
            draw(WORDS),
            operands,
            attributes,
            types=node_types,
            domain=domain,
            name=draw(NAMES),
            output_names=draw(st.lists(NAMES, max_size=1)),
            origin=origin,
        )
        scope.extend(node.outputs)
        own.extend(node.outputs)
    choices = [value for value in scope if value.graph is graph]
    names: set[str] = set()
    for value in draw(st.lists(st.sampled_from(choices), max_size=2)) if choices else []:
        name = draw(st.sampled_from([value.name, draw(NAMES)])) or value.name
        if name not in names:
            names.add(name)
            graph.add_output(value, name)
